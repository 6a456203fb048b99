#!/usr/bin/env bash
# On a machine with a Hopper GPU and nvcc: builds with the cuda backend and shows that it does what the formulas say.
# Arguments go to cmake (for instance -D tomlplusplus_DIR=...). Results: $OUT, or build/gpu/results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH=$PATH:/usr/local/cuda/bin OMP_WAIT_POLICY=passive
out=${OUT:-build/gpu/results}
mkdir -p "$out"

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks_throttle_reasons.active --format=csv | tee "$out/device.csv"
cmake -G Ninja -B build/gpu -D CMAKE_BUILD_TYPE=Release -D MISA_CUDA=ON -D MISA_ONEDNN=OFF -D MISA_BENCHMARKS=OFF "$@" >"$out/configure.txt"
cmake --build build/gpu --target misa-prof test_conformance test_agreement -- --quiet

status=0
try() {
  echo "== $*"
  "$@" || { echo "FAILED: $*"; status=1; }
}
misa=build/gpu/cli/misa-prof
try $misa list
try build/gpu/tests/test_conformance
MISA_RANDOM_BACKEND=cuda MISA_RANDOM_CASES=${MISA_RANDOM_CASES:-2000} try build/gpu/tests/test_agreement
for preset in natural diffuse cancel scattered blind iid; do
  for workload in ci decode-8k; do
    try $misa compare --backend cuda --model tiny --workload "$workload" --preset $preset --active-heads 3 --candidates 512 \
      --top-k 128 --repeat-bitwise 20 --poison-unseen -o "json:$out/$preset-$workload.json"
  done
done
try $misa compare --backend cuda --against profiles/goldens --rows 16 --repeat-bitwise 20 -o - -o "json:$out/goldens.json"
try $misa profile --backend cuda --rows 64 -o - -o "json:$out/profile.json"
exit $status
