#!/usr/bin/env bash
# Cross-builds misa-prof for 64-bit ARM Linux (our own GEMM, no CUDA) and runs all its tests under qemu-user: an hour.
# Arguments go to ctest:  scripts/aarch64.sh -R tensor
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf 'aarch64.sh: %s\n' "$*" >&2
  exit 1
}

scripts/install.sh --cross
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}
fi

# Header-only libraries come from the host (scripts/cmake/header_only.cmake); the target has no other dependency.
mkdir -p build
log=build/configure-aarch64.log
if ! cmake -G Ninja -B build/aarch64 \
  -D CMAKE_TOOLCHAIN_FILE="$PWD/scripts/cmake/aarch64-linux-gnu.cmake" \
  -D CMAKE_PROJECT_TOP_LEVEL_INCLUDES="$PWD/scripts/cmake/header_only.cmake" \
  -D CMAKE_BUILD_TYPE=RelWithDebInfo -D CMAKE_CXX_FLAGS_RELWITHDEBINFO="-O2 -g1" \
  -D MISA_WERROR=ON -D MISA_ONEDNN=OFF -D MISA_CUDA=OFF -D MISA_BENCHMARKS=OFF >"$log" 2>&1; then
  cat "$log" >&2
  fail "cmake could not configure the cross build (its output is above)"
fi
quiet=(-- --quiet)
[[ ! -t 2 ]] || quiet=()
cmake --build build/aarch64 "${quiet[@]}" >&2 || fail "the cross build failed"

# Emulation is 10 to 100 times slower than a machine, and worse where threads wait by spinning.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} OMP_WAIT_POLICY=passive
exec ctest --test-dir build/aarch64 --output-on-failure --no-tests=error --timeout 3600 "$@"
