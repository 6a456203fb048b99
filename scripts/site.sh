#!/usr/bin/env bash
# Makes a site of README.md and docs/ in build/site/html and checks it: links, anchors, navigation, what pages load.
#
#   scripts/site.sh              the program of build/release or build/dev, or MISA_PROF, adds its man page
#   scripts/site.sh --external   lists the links that leave the site; nobody follows them
#
# The site is static: open build/site/html/index.html, or put the folder on any server. The generator's wheels
# (docs/site/requirements.txt) go to build/site/environment, once. Where they cannot be had, it ends with 77.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
case ${1:-} in
  '') ;;
  --external) exec "$python" scripts/site_pages.py --external ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac

missing() {
  echo "skipped: $1" >&2
  exit 77
}
environment=build/site/environment
wanted=$("$python" -c 'import sys; print(sys.version)' && cat docs/site/requirements.txt)
if [[ $(cat "$environment/complete" 2>/dev/null) != "$wanted" ]]; then
  rm -rf "$environment"
  mkdir -p build/site
  "$python" -m venv "$environment" || missing 'this Python makes no environment (Debian: python3-venv)'
  "$environment/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes --only-binary :all: \
    -r docs/site/requirements.txt || missing 'no wheels of the generator can be had'
  printf '%s\n' "$wanted" >"$environment/complete"
fi

program=${MISA_PROF:-}
for one in build/release/cli/misa-prof build/dev/cli/misa-prof; do
  [[ -n $program || ! -x $one ]] || program=$one
done
[[ -n $program ]] || echo 'site.sh: there is no program (MISA_PROF, build/release, build/dev), so no man page' >&2

rm -rf build/site/source build/site/html
"$python" scripts/site_pages.py build/site/source ${program:+"$program"}
"$environment/bin/python" -m sphinx -q -W --keep-going -j auto -E -c docs/site -b html -d build/site/doctrees \
  build/site/source build/site/html
rm -rf build/site/html/{.buildinfo,objects.inv,_sources}
"$python" scripts/check_site.py build/site/html
