#!/usr/bin/env bash
# Records profiles/goldens/h200: what the cuda backend chooses for the shipped trace and for drawn cases, prefill and decode, by
# every indexer. Each golden says what it was made with, so that `misa-prof compare --against FOLDER` (.ci/run compare) draws the
# same inputs again where there is no GPU.
#
# usage: tests/gpu/goldens.sh DIR      MISA_PROF: the program (build/gpu/cli/misa-prof); MISA_BACKEND: another backend than cuda
set -euo pipefail
out=$(realpath -m "${1:?usage: tests/gpu/goldens.sh DIR}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

record() {  # NAME OPTIONS...
  "${MISA_PROF:-build/gpu/cli/misa-prof}" compare --backend "${MISA_BACKEND:-cuda}" "${@:2}" --repeat-bitwise 3 \
    --indexer all --force --write-golden "$out/$1" -o "json:$out/$1.json"
  rm "$out/$1.json"
  echo "$1: $(find "$out/$1" -name '*.safetensors' | wc -l) goldens, $(du -sk "$out/$1" | cut -f1) KiB"
}

mkdir -p "$out"
few=(--rows 8 --top-k 256 --candidates 1024)
record shipped-trace --rows 8 --candidates 8192
record prefill-natural --model deepseek-v3.2 --workload prefill-8k --seed 11 "${few[@]}"
record prefill-diffuse --model deepseek-v3.2 --workload prefill-8k --preset diffuse --seed 12 "${few[@]}"
record prefill-blind --model glm-5 --workload prefill-8k --preset blind --seed 13 "${few[@]}"
record prefill-iid --model deepseek-v3.2 --workload ci --preset iid --seed 14 --rows 24 --top-k 128 --candidates 256
record prefill-long --model deepseek-v3.2 --workload prefill-32k --preset cancel --seed 15 --rows 4 --top-k 1024 --candidates 4096
record decode-natural --model deepseek-v3.2 --workload decode-8k --seed 16 --top-k 256 --candidates 1024
record decode-scattered --model glm-5 --workload decode-8k --preset scattered --seed 17 --top-k 256 --candidates 1024
record decode-two-rows --model deepseek-v3.2 --workload decode-128k-b1 --seed 18 --candidates 4096
record decode-f32-dot --model tiny --workload decode-8k --preset cancel --seed 19 --active-heads 3 --top-k 128 --candidates 512
