#!/usr/bin/env bash
# On a machine with a Hopper GPU: installs a wheel or a Debian package and uses the cuda backend as its user would. Status 1 when
# anything failed.
#   usage: tests/gpu/installed.sh FILE.whl|FILE.deb...      a package is unpacked to a folder of its own, not installed
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
[ $# -gt 0 ] || { sed -n '2,4s/^# *//p' "${BASH_SOURCE[0]}"; exit 2; }
folder=$(mktemp -d) status=0 number=0
trap 'rm -rf "$folder"' EXIT

try() {  # COMMAND...: is shown, with the end of its output, and must succeed
  local start=$SECONDS code
  "$@" >"$folder/output" 2>&1
  code=$?
  tail -n 12 "$folder/output"
  echo "== status $code after $((SECONDS - start)) s: ${*##*/}"
  [ $code -eq 0 ] || status=1
}

for file in "$@"; do
  echo "==== ${file##*/}"
  root=$folder/$((++number))
  case $file in
    *.whl)
      python3 -m venv "$root" && "$root/bin/python" -m pip install --quiet --no-deps --no-index "$file" || exit 1
      program=$root/bin/misa-prof
      ;;
    *)
      dpkg -x "$file" "$root" || exit 1
      program=$root/usr/bin/misa-prof
      ;;
  esac
  try "$program" --version
  try "$program" doctor
  try "$program" profile --backend cuda
  try "$program" profile --backend cuda --workload prefill-32k --trace-out "$folder/timeline.json"
  try "$program" compare --backend cuda
  try "$program" niah --backend cuda --context 8k
  try "$program" sweep --backend cuda --context 8k,32k --indexer dsa,misa --budget 1
  try "$program" doctor
done
exit $status
