#!/usr/bin/env bash
# Installs the packages that building misa-prof needs, if any is missing (Debian 12 and 13, Ubuntu 24.04).
# Says nothing and takes no time when all are there.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/install.sh [--tests] [--ci] [--cross]
  --tests  also what scripts/test.sh needs: JSON Schema and XML validators, NumPy, pytest, YAML
  --ci     also what .ci/run needs: those of --tests, clang, clang-tidy, clang-format, libFuzzer, groff, zsh, fish,
           chromium, dpkg-dev
  --cross  also what scripts/aarch64.sh needs: a cross compiler and qemu-user
Set MISA_INSTALL=0 to install nothing and only name what is missing.
TEXT
}

packages=(g++ cmake ninja-build libdnnl-dev ocl-icd-opencl-dev libcli11-dev doctest-dev libbenchmark-dev
  nlohmann-json3-dev libfmt-dev libtomlplusplus-dev python3)
tested=(python3-jsonschema python3-numpy python3-pytest python3-yaml libxml2-utils)
for argument in "$@"; do
  case $argument in
    --tests) packages+=("${tested[@]}") ;;
    --ci) packages+=("${tested[@]}" dpkg-dev clang clang-tidy clang-format libomp-dev libclang-rt-dev git python3-venv
      groff-base zsh fish chromium chromium-driver) ;;
    --cross) packages+=(g++-aarch64-linux-gnu qemu-user) ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

say() { printf 'install.sh: %s\n' "$*" >&2; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  # Not Debian or Ubuntu: names differ, so say what is needed and go on where the compiler can do C++20.
  say "this is not Debian or Ubuntu; the build needs what these Debian packages hold: ${packages[*]}"
  if echo 'int main() { return []<class T>(T x) { return x; }(0); }' |
    "${CXX:-c++}" -std=c++20 -fopenmp -x c++ -o /dev/null - 2>/dev/null; then
    exit 0
  fi
  say "no C++20 compiler with OpenMP was found (tried '${CXX:-c++}'); please install one, then try again"
  exit 1
fi

installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF "installed $package" <<<"$installed" || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

refuse() {
  say "$1"
  say "please install these packages, then try again: ${missing[*]}"
  exit 1
}
[[ ${MISA_INSTALL:-1} != 0 ]] || refuse "packages are missing, and MISA_INSTALL=0 forbids installing them"

as_root=()
if [[ $(id -u) != 0 ]]; then
  command -v sudo >/dev/null || refuse "packages are missing, and installing needs root or sudo"
  as_root=(sudo)
fi
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" \
    </dev/null >>"$log" 2>&1
}

say "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt update || say "apt-get update failed; going on with the package lists that are there"
if ! apt install --no-install-recommends "${missing[@]}"; then
  tail -n 20 "$log" >&2
  refuse "apt-get install failed (its last lines are above)"
fi
