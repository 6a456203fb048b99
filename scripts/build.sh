#!/usr/bin/env bash
# Configures and builds one preset of CMakePresets.json (default: release), after scripts/install.sh.
# Prints the path of the binary on stdout and everything else on stderr.
#   usage: scripts/build.sh [PRESET [further arguments of cmake --build]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:-release}
[[ $# -eq 0 ]] || shift
scripts/install.sh

if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}
fi

fail() {
  printf 'build.sh: %s\n' "$*" >&2
  exit 1
}

mkdir -p build
log=build/configure-$preset.log
# A first build of everything is shorter with a dozen files joined; who works on a file compiles it alone.
joined=()
[[ -z ${CI:-} ]] || joined=(-D CMAKE_UNITY_BUILD=ON -D CMAKE_UNITY_BUILD_BATCH_SIZE=12)
if ! cmake --preset "$preset" "${joined[@]}" >"$log" 2>&1; then
  cat "$log" >&2
  fail "cmake could not configure the preset '$preset' (its output is above)"
fi

# On a terminal ninja draws one line of progress; elsewhere only warnings and errors are worth a line.
quiet=(-- --quiet)
[[ ! -t 2 ]] || quiet=()
cmake --build --preset "$preset" "$@" "${quiet[@]}" >&2 || fail "the preset '$preset' did not build"

printf '%s\n' "$PWD/build/$preset/cli/misa-prof"
