#!/usr/bin/env bash
# On a machine with a Hopper GPU: kernels of one's own (docs/own-kernel.md) in CUDA, Triton and torch are compared with
# the formulas and timed beside ours, our own library comes in by the same door and loses nothing, and a plug-in that
# crashes, hangs or writes where it must not is named. A line for each check; status 1 when one failed.
#
# usage: tests/gpu/plugins.sh BUILD      with misa-prof, misa_prof and misa_kernels built there
#   OUT=DIR                  where output goes (BUILD/plugins)
#   MISA_PYTHON=PROGRAM      a Python with torch, triton and NumPy (python3)
#   MISA_CHECKS=REGEX        only the checks whose names match it as a whole
#   MISA_PLUGIN_PEER=FILE    a plug-in of DeepGEMM's fp8_mqa_logits: timed too; with MISA_PEERS=FILE, what peers.py -o wrote,
#                            its ratio to ours must be the same within 3 %
# shellcheck disable=SC2317  # check calls the functions
set -uo pipefail
(($# == 1)) || { sed -n '/^# usage/,/^#   MISA_PEERS/p' "${BASH_SOURCE[0]}" >&2; exit 2; }
build=$(realpath "$1") || exit 2
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
export PATH=$PATH:/usr/local/cuda/bin OMP_WAIT_POLICY=passive MISA_PYTHON=${MISA_PYTHON:-python3}
out=${OUT:-$build/plugins} prof=$build/cli/misa-prof
mkdir -p "$out" || exit 2
ours=$(find "$build" -name libmisa_kernels.so -print -quit)
model=(--model deepseek-v3.2)

passed=0 failed=0
check() {  # NAME STATUS WORDS COMMAND...: the command must end with the status, and print the words (a regular expression)
  local name=$1 status=$2 words=$3 start=$EPOCHREALTIME code seconds
  [[ $name =~ ^(${MISA_CHECKS:-.*})$ ]] || return 0
  shift 3
  "$@" >"$out/$name.txt" 2>&1
  code=$?
  seconds=$(awk "BEGIN { print $EPOCHREALTIME - $start }")
  if [[ $code -eq $status ]] && grep -qE -- "$words" "$out/$name.txt"; then
    passed=$((passed + 1))
    printf 'ok     %5.1f s  %s: %s\n' "$seconds" "$name" "$(grep -E -- "$words" "$out/$name.txt" | tail -1)"
  else
    failed=$((failed + 1))
    printf 'FAILED %5.1f s  %s: status %s, wanted %s and "%s": %s\n' "$seconds" "$name" "$code" "$status" "$words" "$*"
    tail -n 12 "$out/$name.txt" | sed 's/^/         | /'
  fi
}

built() {  # SOURCE LIBRARY
  nvcc -O3 -arch=sm_90a -shared -Xcompiler -fPIC -I . -I backends/plugin "$1" -o "$2" && echo "built $2"
}

compared() {  # PLUGIN OPTION...
  "$prof" compare --backend "plugin:$1" "${@:2}" --time-limit 120 -o -
}

timed() {  # NAME REPORT PLUGIN OPTION...: REPORT is the command of report.py and its numbers
  local words
  read -ra words <<<"$2"
  "$prof" profile --backend "plugin:$3" "${@:4}" --samples 20 --budget 60 --time-limit 300 -o "json:$out/$1.json" &&
    "$MISA_PYTHON" tests/gpu/plugins/report.py "${words[@]}" "$out/$1.json"
}

both() {  # NAME PLUGIN RECALL: compares contiguous and paged keys, times 128 and 1024 rows of 32K
  local rows
  check "$1-compare" 0 '^passed: ' compared "$2" --rows 8 --indexer dsa,misa-dagger,hisa
  check "$1-paged" 0 '^passed: ' compared "$2" "${model[@]}" --workload decode-8k --indexer dsa
  for rows in 128 1024; do
    check "$1-profile-$rows" 0 '^dsa: ' timed "$1-$rows" "times $3" "$2" "${model[@]}" --workload prefill-32k \
      --rows "$rows" --indexer dsa
  done
}

wrong() {  # NAME WORDS: what a plug-in does wrong is named in both cases, and the program ends by itself
  check "wrong-$1" 1 "$2" env MISA_MISBEHAVE="$1" "$prof" compare --backend "plugin:$out/libmisbehaving.so" --rows 4 \
    --indexer dsa,misa --time-limit 10 -o - -o "json:$out/wrong-$1.json"
}

check build-cuda 0 '^built' built profiles/kernels/score_cuda.cu "$out/libscore_cuda.so"
check build-misbehaving 0 '^built' built tests/gpu/plugins/misbehaving.cu "$out/libmisbehaving.so"

both cuda "$out/libscore_cuda.so" 0.99
both triton profiles/kernels/score_triton.py 0.99
check torch-compare 0 '^passed: ' compared tests/gpu/plugins/index_torch.py --rows 8 --indexer dsa
check torch-profile 0 '^dsa: ' timed torch 'times 0.99' tests/gpu/plugins/index_torch.py "${model[@]}" \
  --workload prefill-32k --rows 128 --indexer dsa

check ours-compare 0 '^passed: ' compared "$ours" --against cuda --rows 32 -o "json:$out/ours.json"
check ours-same-ids 0 '^exact: ' "$MISA_PYTHON" tests/gpu/plugins/report.py exact "$out/ours.json"
check ours-same-time 0 '^misa-lr-dagger: ' timed ours-time 'same 2' "$ours" "${model[@]}" --workload prefill-32k \
  --rows 1024 --indexer dsa,misa,misa-lr-dagger

wrong duplicates 'duplicate'
wrong outside 'overwritten'
wrong crash 'SIGSEGV'
wrong hang 'ran longer|time limit|timed out'
wrong fault 'illegal memory access'
wrong stale 'miss|violation'

if [[ -n ${MISA_PLUGIN_PEER:-} ]]; then
  check peer-compare 0 '^passed: ' compared "$MISA_PLUGIN_PEER" --rows 8 --indexer dsa
  for length in 32 128; do
    report="peer $((length * 1024)) ${MISA_PEERS:--}"
    check "peer-profile-${length}k" 0 '^dsa: ' timed "peer-${length}k" "$report" "$MISA_PLUGIN_PEER" "${model[@]}" \
      --workload "prefill-${length}k" --rows 1024 --indexer dsa --warm --no-fusion
  done
fi

echo "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
