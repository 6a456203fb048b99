#!/usr/bin/env bash
# On a machine with a Hopper GPU: shows that the cuda backend does what the formulas say, times its stages and the public kernels
# beside them, and writes it all into one file, summary.json. Status 1 when anything failed.
#
# usage: tests/gpu/run.sh [-D NAME=VALUE...]      arguments go to cmake (for instance -D tomlplusplus_DIR=...)
#   OUT=DIR                 where results go (build/gpu/results)
#   MISA_BIN=DIR            use the programs in DIR: misa-prof, test_conformance, test_agreement, misa-stages-bench
#   MISA_RANDOM_CASES=N     drawn cases (2000);  MISA_SANITIZED_CASES=N  of them under each sanitizer (12)
#   MISA_PYTHON=PROGRAM     the Python whose torch and wheels the peers run in (python3)
#   MISA_STEPS=REGEX        only the steps whose names match it as a whole
# shellcheck disable=SC2317  # step calls the functions
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
export PATH=$PATH:/usr/local/cuda/bin OMP_WAIT_POLICY=passive
out=${OUT:-build/gpu/results} bin=${MISA_BIN:-build/gpu/bin} python=${MISA_PYTHON:-python3}
mkdir -p "$out/steps" || exit 1
out=$(realpath "$out")
rm -f "$out"/*.json "$out"/steps/* "$out/steps.tsv"

indexers=all
status=0
step() {  # NAME COMMAND...: its output is shown and kept, its status and time go into the summary
  local name=$1 start=$EPOCHREALTIME code
  [[ $name =~ ^(${MISA_STEPS:-.*})$ ]] || return 0
  shift
  echo "== $name: $*"
  "$@" 2>&1 | tee "$out/steps/$name.txt"
  code=${PIPESTATUS[0]}
  printf '%s\t%s\t%s\t%s\n' "$name" "$code" "$start" "$EPOCHREALTIME" >>"$out/steps.tsv"
  if [ "$code" -ne 0 ]; then
    echo "FAILED with status $code: $name"
    status=1
  fi
}

build() {
  cmake -G Ninja -B build/gpu -D CMAKE_BUILD_TYPE=Release -D MISA_CUDA=ON -D MISA_ONEDNN=OFF "$@" &&
    cmake --build build/gpu --target misa-prof misa_kernels test_conformance test_agreement misa-stages-bench -- --quiet &&
    mkdir -p "$bin" &&
    cp build/gpu/cli/misa-prof build/gpu/tests/test_conformance build/gpu/tests/test_agreement \
      build/gpu/tests/gpu/misa-stages-bench build/gpu/backends/libmisa_kernels.so "$bin"
}

present() {
  local tool missing=0
  for tool in "$@"; do
    if ! command -v "$tool"; then
      echo "$tool is not there: neither a file nor on PATH"
      missing=1
    fi
  done
  return "$missing"
}

device() {
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu,clocks_throttle_reasons.active \
    --format=csv >"$out/$1.csv" && cat "$out/$1.csv"
}

presets() {
  local preset workload failed=0
  for preset in natural diffuse cancel scattered blind iid; do
    for workload in ci decode-8k; do
      "$bin/misa-prof" compare --backend cuda --model tiny --workload "$workload" --preset "$preset" --active-heads 3 \
        --candidates 512 --top-k 128 --repeat-bitwise 20 --poison-unseen -o "json:$out/steps/$preset-$workload.json" ||
        failed=1
    done
  done
  return "$failed"
}

goldens() {
  local folder failed=0
  "$bin/misa-prof" compare --backend cuda --against profiles/goldens --rows 16 --repeat-bitwise 20 -o - || failed=1
  for folder in profiles/goldens/h200/*/; do
    [ -e "$folder" ] || continue
    "$bin/misa-prof" compare --backend cuda --against "$folder" -o "json:$out/steps/golden.json" || failed=1
  done
  return "$failed"
}

tools=(nvidia-smi compute-sanitizer "$python")
[ -n "${MISA_BIN:-}" ] || tools+=(cmake ninja nvcc)
step tools present "${tools[@]}"
step device device before
[ -n "${MISA_BIN:-}" ] || step build build "$@"
step programs present "$bin"/{misa-prof,test_conformance,test_agreement,misa-stages-bench}

if command -v nvidia-smi >/dev/null && [ -x "$bin/misa-prof" ]; then
  step list "$bin/misa-prof" list
  step conformance "$bin/test_conformance"
  step drawn env MISA_RANDOM_BACKEND=cuda MISA_RANDOM_CASES="${MISA_RANDOM_CASES:-2000}" "$bin/test_agreement"
  step presets presets
  step goldens goldens
  for router in linear-residual covariance; do
    step "$router" "$bin/misa-prof" compare --backend cuda --indexer misa-lr,misa-lr-dagger --router "$router" --rows 64 -o -
  done
  for tool in memcheck racecheck initcheck synccheck; do
    step "$tool-drawn" env MISA_RANDOM_BACKEND=cuda MISA_RANDOM_CASES="${MISA_SANITIZED_CASES:-12}" \
      compute-sanitizer --tool "$tool" --error-exitcode 9 "$bin/test_agreement" -tc='*drawn*'
    step "$tool-means" compute-sanitizer --tool "$tool" --error-exitcode 9 "$bin/test_conformance" -tc='*how many others*'
    step "$tool-prefill" compute-sanitizer --tool "$tool" --error-exitcode 9 "$bin/misa-prof" compare --backend cuda \
      --model deepseek-v3.2 --workload prefill-8k --rows 20 --indexer "$indexers"
  done
  step stages "$bin/misa-stages-bench" --benchmark_min_time=0 --benchmark_out="$out/stages.json" \
    --benchmark_out_format=json
  for length in 128k 32k; do
    step "profile-$length" "$bin/misa-prof" profile --backend cuda --model deepseek-v3.2 --workload "prefill-$length" \
      --rows 1024 --budget 2 --indexer "$indexers" -o - -o "json:$out/profile-$length.json"
  done
  if "$python" -c 'import torch, triton' 2>"$out/steps/torch.txt"; then
    step peers "$python" tests/gpu/peers/peers.py --bin "$bin" -o "$out/peers.json"
    step paper "$python" tests/gpu/peers/paper.py --bin "$bin" -o "$out/paper.json"
  else
    echo "== peers: not timed, $python cannot import torch and triton"
  fi
  step after device after
fi

"$python" tests/gpu/summary.py "$out" || status=1
exit $status
