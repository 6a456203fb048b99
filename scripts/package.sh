#!/usr/bin/env bash
# Makes a Debian package and a tarball of the release build, which it reuses where it is there already (minutes else).
# The same source gives the same bytes, in whatever folder it lies. Prints their paths on stdout, all else on stderr.
#   usage: scripts/package.sh [--quick] [FOLDER]      default: build/packages
#   --quick: a Debian package a third larger, in a tenth of the time, for tests
# Their files have the time of the commit, or SOURCE_DATE_EPOCH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf 'package.sh: %s\n' "$*" >&2
  exit 1
}

compression=xz
if [[ ${1:-} == --quick ]]; then
  compression=gzip
  shift
fi
folder=${1:-build/packages}
for tool in cpack dpkg-shlibdeps gzip; do
  command -v "$tool" >/dev/null || fail "please install $tool (Debian: cmake, dpkg-dev, gzip)"
done
if [[ -z ${SOURCE_DATE_EPOCH:-} ]]; then
  if prefix=$(git rev-parse --show-prefix 2>/dev/null) && [[ -z $prefix ]]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  else  # in an archive of git, which says it
    SOURCE_DATE_EPOCH=$(sed -n '2s/^\([0-9]*\)$/\1/p' scripts/cmake/commit.txt)
  fi
fi
[[ -n $SOURCE_DATE_EPOCH ]] || fail 'this is no clone and no archive of git: please set SOURCE_DATE_EPOCH'
export SOURCE_DATE_EPOCH

scripts/build.sh release --target misa-prof misa_launcher misa_prof misa_kernels >/dev/null
umask 022  # what is packed has the same modes whoever packs it
rm -rf "$folder"
mkdir -p "$folder"
if ! cpack -D CPACK_DEBIAN_COMPRESSION_TYPE=$compression --config build/release/CPackConfig.cmake -B "$folder" >"$folder/cpack.log" 2>&1; then
  cat "$folder/cpack.log" >&2
  fail 'cpack failed (its output is above)'
fi
rm -rf "$folder/_CPack_Packages"
realpath "$folder"/misa-prof_*.deb "$folder"/misa-prof-*.tar.gz
