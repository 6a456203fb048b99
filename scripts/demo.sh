#!/usr/bin/env bash
# Builds misa-prof and profiles a recorded indexer workload on the CPU, all indexers side by side.
# The table goes to stdout, reports to build/demo/. Further arguments go to `misa-prof profile`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=$(scripts/build.sh release --target misa-prof)
mkdir -p build/demo
"$binary" profile --trace profiles/traces/learned-32k-h64.safetensors \
  --indexer all --backend cpu \
  -o table:- -o json:build/demo/report.json -o md:build/demo/report.md "$@"
printf 'reports: %s\n' "$PWD/build/demo/report.json" "$PWD/build/demo/report.md" >&2
