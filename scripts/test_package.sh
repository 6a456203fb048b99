#!/usr/bin/env bash
# Tests what scripts/package.sh made: the binaries, the tarball where it is unpacked, find_package, and the Debian
# package in fresh roots of Debian without a compiler.
#   usage: scripts/test_package.sh [--here] [SUITE...]      default: bookworm trixie
#   --here: no roots.  The others need root, mmdebstrap and a mirror, and are skipped aloud without these.
#   MISA_PACKAGES=DIR (build/packages): where the packages lie; MISA_ROOTS=DIR (/tmp/misa-prof-roots): where roots go
#   (SUITE.tar there, as mmdebstrap makes it, is unpacked instead); MISA_MIRROR=X: what mmdebstrap takes as its mirror
# The last line is 'N passed, N failed, N skipped'. Status 1 when any failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

roots=${MISA_ROOTS:-/tmp/misa-prof-roots} suites=(bookworm trixie)
if [[ ${1:-} == --here ]]; then suites=(); elif [[ $# -gt 0 ]]; then suites=("$@"); fi
packages=${MISA_PACKAGES:-build/packages}
if ! deb=$(realpath -e "$packages"/misa-prof_*.deb) || ! tarball=$(realpath -e "$packages"/misa-prof-*.tar.gz); then
  echo 'test_package.sh: please run scripts/package.sh first' >&2
  exit 2
fi
work=$(mktemp -d) root=
leave_root() { if [[ -n $root ]] && mountpoint -q "$root/proc"; then umount "$root/proc"; fi; }
leave() {
  leave_root
  rm -rf "$work"
}
trap leave EXIT
source scripts/checks.sh

mkdir "$work/deb" "$work/tar"
dpkg-deb --extract "$deb" "$work/deb"
tar -xzf "$tarball" -C "$work/tar" --strip-components=1
mapfile -t binaries < <(find "$work/tar" -type f \( -name misa-prof -path '*/bin/*' -o -name '*.so*' \))

same_files() {  # but for what Debian's policy asks
  diff <(cd "$work/tar" && find . -type f | sed 's,^\./,,' | LC_ALL=C sort) \
    <(cd "$work/deb/usr" && find . -type f | sed 's,^\./,,; s,\.1\.gz$,.1,' | { grep -v changelog.Debian.gz; echo share/doc/misa-prof/LICENSE; } | LC_ALL=C sort)
}
no_build_paths() {
  local binary
  [[ ${#binaries[@]} -ge 3 ]]
  for binary in "${binaries[@]}"; do
    if strings -n 5 "$binary" | grep -F -e "$PWD" -e "$HOME/" -e tmpxft; then return 1; fi
  done
}
stripped() {
  local binary
  for binary in "${binaries[@]}"; do
    if readelf -SW "$binary" | grep -E ' \.(symtab|debug_info) '; then return 1; fi
  done
}
completions() {
  bash -n "$work/tar/share/bash-completion/completions/misa-prof"
  zcat "$work/deb/usr/share/man/man1/misa-prof.1.gz" | grep 'MISA.*PROF 1'
  test -s "$work/tar/share/zsh/vendor-completions/_misa-prof"
  test -s "$work/tar/share/fish/vendor_completions.d/misa-prof.fish"
}
first_table() { (cd "$work" && "$work/tar/bin/misa-prof" profile --budget 0.1 --indexer misa | grep 'end to end'); }
names_itself() {
  "$work/tar/bin/misa-prof" --version
  "$work/tar/bin/misa-prof" --version | grep -E '^commit +[0-9a-f]{12}$'
}
plug_in() {
  # A project of somebody else, with nothing of this tree but the installed package.
  cp -r tests/package "$work/project"
  cp profiles/kernels/dsa_cpu.c tests/exported/kernels_test.c "$work/project/"
  cmake -S "$work/project" -B "$work/project/build" -D CMAKE_PREFIX_PATH="$work/tar"
  cmake --build "$work/project/build"
  ctest --test-dir "$work/project/build" --output-on-failure --no-tests=error
}
nothing_serious() { lintian --fail-on error "$deb"; }

check 'the package and the tarball have the same files' same_files
check 'binaries name no folder of who built them' no_build_paths
check 'binaries are stripped' stripped
check 'man page and completions are there' completions
check 'the tarball names its commit where it is unpacked' names_itself
check 'it profiles the shipped trace' first_table
if command -v cmake >/dev/null; then
  check 'find_package(misa-prof) builds a plug-in and a caller out of the tree' plug_in
else
  skip 'find_package(misa-prof)' 'no cmake'
fi
if command -v lintian >/dev/null; then
  check 'lintian finds nothing serious' nothing_serious
else
  skip 'lintian' 'it is not installed'
fi

inside() {
  chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
from_nothing_to_a_table() {
  local start=$SECONDS
  inside apt-get -qq update
  inside apt-get -qq -y install --no-install-recommends /misa-prof.deb
  inside misa-prof profile >"$work/table"
  grep -q 'end to end' "$work/table"
  inside misa-prof --version
  inside misa-prof compare --against /usr/share/misa-prof/profiles/goldens --rows 16
  if inside sh -c 'command -v cc c++ g++ gcc'; then return 1; fi
  [[ $((SECONDS - start)) -lt 60 ]]
}
make_root() {  # SUITE: in $root, from an archive that is there, else by mmdebstrap
  mkdir -p "$root"
  if [[ -f $roots/$1.tar ]]; then
    tar -xf "$roots/$1.tar" -C "$root"
  else
    mmdebstrap --quiet --variant=apt "$1" "$root" ${MISA_MIRROR:+"$MISA_MIRROR"}
  fi
}
for suite in "${suites[@]}"; do
  if ! command -v mmdebstrap >/dev/null || [[ $(id -u) != 0 ]]; then
    skip "the package in $suite" 'that needs root and mmdebstrap'
    continue
  fi
  root=$roots/$suite
  leave_root
  rm -rf "$root"
  if ! make_root "$suite" >"$work/log" 2>&1; then
    skip "the package in $suite" "mmdebstrap made no root: $(tail -n 1 "$work/log")"
    continue
  fi
  cp "$deb" "$root/misa-prof.deb"
  cp /etc/resolv.conf "$root/etc/"
  mount -t proc proc "$root/proc"
  check "$suite: apt installs it and it prints a table, in less than a minute, without a compiler" from_nothing_to_a_table
  leave_root
  rm -rf "$root"
done
end_of_checks
