#!/usr/bin/env bash
# Runs the two commands of README.md ("Start") in fresh roots of Debian, as on a machine where nothing is installed yet.
# The committed tree is copied in without its history, as a source archive holds it.
#
# usage, as root:  scripts/fresh_debian.sh [SUITE...]      default: bookworm trixie
#   MISA_ROOTS=DIR  where the roots and logs go (/tmp/misa-prof-roots); the root of a suite that passed is removed
#   MISA_MIRROR=X   what mmdebstrap takes as its mirror; without it, mmdebstrap's own default
#   CMAKE_BUILD_PARALLEL_LEVEL=N  compilers at the same time
# A suite takes half an hour on two cores. Status 1 when a command failed in one of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf 'fresh_debian.sh: %s\n' "$*" >&2
  exit 2
}
[[ $(id -u) == 0 ]] || fail 'chroot needs root'
command -v mmdebstrap >/dev/null || fail 'please install mmdebstrap'

suites=("$@")
[[ $# -gt 0 ]] || suites=(bookworm trixie)
roots=${MISA_ROOTS:-/tmp/misa-prof-roots}
mapfile -t commands < <(sed -n '/^## Start/,/^## Use/s/^    \(\.\/scripts\/[a-z_]*\.sh\).*/\1/p' README.md)
[[ ${#commands[@]} -eq 2 ]] || fail "README.md names ${#commands[@]} commands under 'Start', not two"
mkdir -p "$roots"

root=
leave() {
  if [[ -n $root ]] && mountpoint -q "$root/proc"; then umount "$root/proc"; fi
}
trap leave EXIT

inside() {  # COMMAND...: in the root, in the copied tree, with nothing of this machine's environment
  # shellcheck disable=SC2016  # the root's shell expands "$@"
  chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CI=true \
    ${CMAKE_BUILD_PARALLEL_LEVEL:+CMAKE_BUILD_PARALLEL_LEVEL="$CMAKE_BUILD_PARALLEL_LEVEL"} \
    /bin/bash -c 'cd /usr/src/misa-prof && "$@"' bash "$@" </dev/null
}

passed=0 failed=0
for suite in "${suites[@]}"; do
  root=$roots/$suite
  leave
  rm -rf "$root"
  mmdebstrap --quiet --variant=apt "$suite" "$root" ${MISA_MIRROR:+"$MISA_MIRROR"}
  mkdir "$root/usr/src/misa-prof"
  git archive HEAD | tar -x -C "$root/usr/src/misa-prof"
  mount -t proc proc "$root/proc"
  before=$failed
  for command in "${commands[@]}"; do
    start=$SECONDS log=$roots/$suite-$(basename "$command" .sh).log
    if inside "$command" >"$log" 2>&1; then
      verdict=passed passed=$((passed + 1))
    else
      verdict=FAILED failed=$((failed + 1))
      tail -n 40 "$log"
    fi
    printf '%s: %s %s, %d s (%s)\n' "$suite" "$command" "$verdict" $((SECONDS - start)) "$log"
  done
  # shellcheck disable=SC2016  # dpkg-query's own placeholders
  inside dpkg-query -W -f '  ${Package} ${Version}\n' g++ cmake libdnnl-dev libcli11-dev libfmt-dev libtomlplusplus-dev \
    nlohmann-json3-dev doctest-dev || true
  leave
  [[ $failed -gt $before ]] || rm -rf "$root"
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[[ $failed -eq 0 ]]
