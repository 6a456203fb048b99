#!/usr/bin/env bash
# On a machine with a Hopper GPU and nvcc: builds with the cuda backend, shows that it does what the formulas say, and
# times its stages. Arguments go to cmake (for instance -D tomlplusplus_DIR=...). Results: $OUT, or build/gpu/results.
#   MISA_BIN=DIR  use the programs in DIR instead of building
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH=$PATH:/usr/local/cuda/bin OMP_WAIT_POLICY=passive
out=${OUT:-build/gpu/results}
mkdir -p "$out"

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks_throttle_reasons.active --format=csv | tee "$out/device.csv"
bin=${MISA_BIN:-build/gpu/bin}
if [ -z "${MISA_BIN:-}" ]; then
  cmake -G Ninja -B build/gpu -D CMAKE_BUILD_TYPE=Release -D MISA_CUDA=ON -D MISA_ONEDNN=OFF "$@" >"$out/configure.txt"
  cmake --build build/gpu --target misa-prof test_conformance test_agreement misa-stages-bench -- --quiet
  mkdir -p "$bin"
  cp build/gpu/cli/misa-prof build/gpu/tests/test_conformance build/gpu/tests/test_agreement build/gpu/tests/gpu/misa-stages-bench "$bin"
fi

status=0
try() {
  echo "== $*"
  "$@" || { echo "FAILED: $*"; status=1; }
}
misa=$bin/misa-prof
try $misa list
try "$bin/test_conformance"
MISA_RANDOM_BACKEND=cuda MISA_RANDOM_CASES=${MISA_RANDOM_CASES:-2000} try "$bin/test_agreement"
for tool in memcheck racecheck initcheck synccheck; do
  MISA_RANDOM_BACKEND=cuda MISA_RANDOM_CASES=${MISA_SANITIZED_CASES:-12} try compute-sanitizer --tool $tool --error-exitcode 9 \
    "$bin/test_agreement" -tc="*drawn*"
  try compute-sanitizer --tool $tool --error-exitcode 9 $misa compare --backend cuda --model deepseek-v3.2 \
    --workload prefill-8k --rows 20
done
for preset in natural diffuse cancel scattered blind iid; do
  for workload in ci decode-8k; do
    try $misa compare --backend cuda --model tiny --workload "$workload" --preset $preset --active-heads 3 --candidates 512 \
      --top-k 128 --repeat-bitwise 20 --poison-unseen -o "json:$out/$preset-$workload.json"
  done
done
try $misa compare --backend cuda --against profiles/goldens --rows 16 --repeat-bitwise 20 -o - -o "json:$out/goldens.json"
try $misa profile --backend cuda --workload prefill-128k --rows 1024 --model deepseek-v3.2 --budget 2 -o - -o "json:$out/profile.json"
try "$bin/misa-stages-bench" --benchmark_min_time=0.05 --benchmark_out="$out/stages.json" --benchmark_out_format=json
exit $status
