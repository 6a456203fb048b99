#!/usr/bin/env bash
# Tests the wheel that scripts/wheel.sh made, as a user has it: what is in it, then from an empty virtual environment to
# the first tables, then the same in fresh roots of Debian without a compiler.
#   usage: scripts/test_wheel.sh [--here] [SUITE...]      default: bookworm trixie
#   --here: no roots.  The others need root, mmdebstrap and a mirror, and are skipped aloud without these.
#   MISA_WHEEL=FILE: the wheel, default that of build/wheel;  MISA_ROOTS=DIR (/tmp/misa-prof-roots): where roots go
#   MISA_MIRROR=X: what mmdebstrap takes as its mirror, or a folder of SUITE.tar that hold roots with python3-venv
#   --twice: also that a second build gives the same bytes
# The last line is 'N passed, N failed, N skipped'. Status 1 when any failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

suites=(bookworm trixie) twice=
while [[ $# -gt 0 ]]; do
  case $1 in
    --here) suites=() ;;
    --twice) twice=yes ;;
    -*) sed -n '4,8s/^# *//p' "$0" >&2 && exit 2 ;;
    *) suites=("$@") && break ;;
  esac
  shift
done
roots=${MISA_ROOTS:-/tmp/misa-prof-roots}
if [[ -n ${MISA_WHEEL:-} ]]; then wheel=$MISA_WHEEL; else wheel=$(echo build/wheel/misa_prof-*.whl); fi
if ! wheel=$(realpath -e "$wheel"); then
  echo 'test_wheel.sh: please run scripts/wheel.sh first' >&2
  exit 2
fi
python=${PYTHON:-python3}
work=$(mktemp -d) root=
leave() {
  if [[ -n $root ]] && mountpoint -q "$root/proc"; then umount "$root/proc"; fi
  rm -rf "$work"
}
trap leave EXIT
source scripts/checks.sh

# What is in it.
files=$work/files
"$python" -m zipfile -e "$wheel" "$files"
data=$(echo "$files"/misa_prof-*.data/data)
information=$(echo "$files"/misa_prof-*.dist-info)
mapfile -t binaries < <(find "$files" -type f -exec sh -c 'head -c 4 "$1" | grep -q ELF' sh {} \; -print)

everything() {
  local file
  for file in bin/misa-prof lib/libmisa_prof.so lib/libmisa_kernels.so include/misa_kernel.h share/man/man1/misa-prof.1 \
    share/bash-completion/completions/misa-prof share/zsh/vendor-completions/_misa-prof \
    share/fish/vendor_completions.d/misa-prof.fish share/misa-prof/profiles/traces/learned-32k-h64.safetensors; do
    test -s "$data/$file"
  done
  local folder
  for folder in models workloads goldens kernels; do
    diff -r "profiles/$folder" "$data/share/misa-prof/profiles/$folder"
  done
  diff -r docs/schema "$data/share/misa-prof/schema"
  diff -r -x __pycache__ profiles/recorder/misa "$files/misa"
  diff -r -x __pycache__ profiles/recorder/misa_trace "$files/misa_trace"
  cmp LICENSE "$information"/licenses/LICENSE
}
nothing_twice() { [[ ! -e $data/share/misa-prof/profiles/recorder && ! -e $data/share/doc ]]; }
metadata() {
  local version
  version=$(sed -n 's/^project(misa-prof VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
  grep -x "Name: misa-prof" "$information/METADATA"
  grep -x "Version: $version" "$information/METADATA"
  grep -x 'Requires-Python: >=3.9' "$information/METADATA"
  grep -xE 'Tag: py3-none-manylinux_2_[0-9]+_[a-z0-9_]+' "$information/WHEEL"
  # What the packages of Python announce is what they announce where they are installed alone.
  "$python" - <<'PYTHON'
import re
def part(path):
    text = open(path).read()
    return re.search(r'^dependencies = .*$', text, re.M).group(), re.findall(r'^misa[-_]trace = "misa_trace\..*$', text, re.M)
assert part("pyproject.toml") == part("profiles/recorder/pyproject.toml"), "pyproject.toml and that of the recorder differ"
version = lambda path, before: re.search(before + r'"?([0-9.]+)', open(path).read()).group(1)
assert version("CMakeLists.txt", r"project\(misa-prof VERSION ") == version("profiles/recorder/pyproject.toml", "version = ")
PYTHON
}
no_build_paths() {
  [[ ${#binaries[@]} -ge 4 ]]
  local home=${HOME:-/}
  [[ $home != / ]] || home=$PWD
  if grep -laF -e "$PWD/" -e "$home/" "${binaries[@]}"; then return 1; fi
}
stripped() {
  local binary
  for binary in "${binaries[@]}"; do
    if readelf -SW "$binary" | grep -E ' \.debug_info '; then return 1; fi
  done
}
needs_nothing_else() {
  # What every machine has, and what the wheel has; above all not libcuda.so.1, which only machines with a GPU have.
  local binary library
  for binary in "${binaries[@]}"; do
    for library in $(readelf -dW "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
      case $library in
        libc.so.6 | libm.so.6 | libgcc_s.so.1 | libstdc++.so.6 | ld-linux-*.so.*) ;;
        libpthread.so.0 | libdl.so.2 | librt.so.1) ;;
        *) [[ -n $(find "$data/lib" -name "$library") ]] || { echo "$binary needs $library" && return 1; } ;;
      esac
    done
  done
}

check 'the wheel has the program, libraries, header, profiles, schema, man page, completions and both packages' everything
check 'it has nothing twice' nothing_twice
check 'name, version, tag and what the packages announce' metadata
check 'binaries name no folder of who built them' no_build_paths
check 'binaries are stripped' stripped
check 'binaries need nothing but the C and C++ libraries and what the wheel has' needs_nothing_else

# An empty environment, in a folder with a space, used from a folder that has nothing of this tree.
environment="$work/an environment" elsewhere=$work/elsewhere
mkdir "$elsewhere"
clean() { (cd "$elsewhere" && env -i PATH=/usr/bin:/bin HOME="$elsewhere" LANG=C.UTF-8 OMP_NUM_THREADS=2 "$@"); }
program() { clean "$environment/bin/misa-prof" "$@"; }
in_python() { clean "$environment/bin/python" "$@"; }
install() {
  "$python" -m venv "$environment"
  "$environment/bin/python" -m pip --disable-pip-version-check --quiet install "$wheel"
  "$environment/bin/python" -m pip --disable-pip-version-check check
}
says_what_it_is() {
  program --version
  program --version | grep -E '^commit +[0-9a-f]{12}$'
  [[ $(head -c 4 "$environment/bin/misa-prof") == $'\x7fELF' ]]  # no script between the shell and the program
}
first_table() { program profile --budget 0.1 --indexer misa | grep 'end to end'; }
readme_compare() { program compare --against profiles/goldens --rows 16; }
exit_codes() {
  local status=0
  program profile --indexer none || status=$?
  [[ $status -eq 2 ]]
  # SIGINT ends it as it ends the program of a build: a partial result, then 130. Where this script runs in the
  # background the signal is ignored, and the program would keep to that.
  (cd "$elsewhere" && exec env --default-signal=INT "$environment/bin/misa-prof" profile --budget 60 -o part.json) &
  local pid=$!
  sleep 1.5
  kill -INT "$pid"
  status=0
  wait "$pid" || status=$?
  [[ $status -eq 130 ]]
}
traces_in_python() {
  local trace=$environment/share/misa-prof/profiles/traces/learned-32k-h64.safetensors
  in_python -m misa_trace show "$trace" | grep '^.* rows, 64 heads of 128'
  in_python -m misa_trace slice "$trace" part.safetensors --rows 0:2
  program inspect part.safetensors
  clean "$environment/bin/misa-trace" show part.safetensors | grep '^2 rows'
  # Without a PATH that names it, the program is the one of the same wheel.
  in_python - <<'PYTHON'
import misa_trace as m, numpy as np
assert m.run("inspect", "part.safetensors")["rows"]["rows"] == 2
trace = m.read_trace("part.safetensors")
m.write_selection("ids.safetensors", trace.select(64), trace=trace)
found = m.run("compare", trace="part.safetensors", selection="ids.safetensors", top_k=64, arithmetic="f64")
assert found["cases"], found
PYTHON
}
kernels_in_python() {
  in_python - <<'PYTHON'
import misa.library as library
table = library.table_of(1, 0)
print(table.name, table.description, library._library._name)
assert "/lib/libmisa_kernels.so" in library._library._name
PYTHON
  program compare --backend "plugin:$environment/share/misa-prof/profiles/kernels/dsa_numpy.py" --indexer dsa --rows 2
}
same_bytes() {
  scripts/wheel.sh "$work/again"
  cmp "$wheel" "$work"/again/*.whl
}

leaves_nothing() {
  "$environment/bin/python" -m pip --disable-pip-version-check --quiet uninstall --yes misa-prof
  if find "$environment" -type f -path '*misa*' | grep .; then return 1; fi
}

check 'one command installs it in an empty virtual environment, and pip finds nothing wrong' install
check 'the command is the program itself and names its commit' says_what_it_is
check 'it profiles the shipped trace' first_table
check "README's compare with the goldens passes" readme_compare
check 'exit codes and Ctrl-C are those of the program' exit_codes
check 'misa_trace reads, cuts and selects, and finds the program' traces_in_python
check 'our kernels and a plug-in in Python work' kernels_in_python
check 'uninstalling leaves no file of it' leaves_nothing
if [[ -n $twice ]]; then check 'a second build has the same bytes' same_bytes; fi

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LANG=C.UTF-8 "$@"; }
from_nothing_to_a_table() {
  local start=$SECONDS
  inside python3 -m venv /env
  inside /env/bin/python -m pip --quiet install --no-index --find-links /wheels "/wheels/${wheel##*/}"
  inside /env/bin/misa-prof profile >"$work/table"
  grep 'end to end' "$work/table"
  echo "from nothing to the first table: $((SECONDS - start)) s" | tee "$work/seconds"
  [[ $((SECONDS - start)) -lt 60 ]]
  inside /env/bin/misa-prof --version
  inside /env/bin/misa-prof compare --against profiles/goldens --rows 16
  inside /env/bin/python -m misa_trace show /env/share/misa-prof/profiles/traces/learned-32k-h64.safetensors
  inside /env/bin/python -m pip check
  if inside sh -c 'command -v cc c++ g++ gcc'; then return 1; fi
}
for suite in "${suites[@]}"; do
  if [[ $(id -u) != 0 ]] || ! command -v mmdebstrap >/dev/null; then
    skip "a fresh root of $suite" 'needs root and mmdebstrap'
    continue
  fi
  root=$roots/wheel-$suite
  rm -rf "$root"
  mkdir -p "$root"
  if [[ -s ${MISA_MIRROR:-}/$suite.tar ]]; then
    tar -xf "$MISA_MIRROR/$suite.tar" -C "$root"
  elif ! mmdebstrap --quiet --variant=apt --include=python3,python3-venv "$suite" "$root" ${MISA_MIRROR:+"$MISA_MIRROR"} 2>"$work/log"; then
    skip "a fresh root of $suite" "$(tail -n 1 "$work/log")"
    continue
  fi
  mkdir "$root/wheels"
  cp "$wheel" "$root/wheels/"
  # NumPy's wheel comes along, for the root has no network.
  if ! "$python" -m pip --disable-pip-version-check --quiet download --no-deps --only-binary=:all: --dest "$root/wheels" \
    --python-version "$(inside python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" numpy >"$work/log" 2>&1; then
    skip "a fresh root of $suite" "no wheel of NumPy can be had: $(tail -n 1 "$work/log")"
    continue
  fi
  mount -t proc proc "$root/proc"
  check "$suite without a compiler: from nothing to the first table in less than 60 s" from_nothing_to_a_table
  [[ ! -s $work/seconds ]] || sed 's/^/        /' "$work/seconds"
  umount "$root/proc"
  rm -rf "$root"
done

end_of_checks
