#!/usr/bin/env bash
# Makes the files of a release in a folder: packages, source, notes, a list of components, and checksums that are signed.
#   usage: scripts/release.sh VERSION (--gpg KEY | --ssh KEYFILE | --unsigned) [--packages FOLDER] [--out FOLDER]
#     VERSION            that of CMakeLists.txt, with a section in docs/changelog.md
#     --gpg KEY          signs SHA256SUMS with a key of GnuPG:      SHA256SUMS.asc
#     --ssh KEYFILE      signs it with a private key of OpenSSH:    SHA256SUMS.sig
#     --packages FOLDER  packages that are made already (.deb, .tar.gz, .whl); without it scripts/package.sh makes two
#     --out FOLDER       default: build/release-VERSION
# Nothing is uploaded and no tag is made. docs/releasing.md has the whole way.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf 'release.sh: %s\n' "$*" >&2
  exit 2
}

version=${1:-} sign='' key='' packages='' out=''
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail 'usage: scripts/release.sh VERSION (--gpg KEY | --ssh KEYFILE | --unsigned) ...'
shift
while [[ $# -gt 0 ]]; do
  case $1 in
    --unsigned) sign=none ;;
    --gpg | --ssh | --packages | --out)
      [[ -n ${2:-} ]] || fail "$1 needs a value"
      case $1 in
        --packages) packages=$2 ;;
        --out) out=$2 ;;
        *) sign=$1 key=$2 ;;
      esac
      shift
      ;;
    *) fail "there is no option '$1'" ;;
  esac
  shift
done
[[ -n $sign ]] || fail 'please say how to sign: --gpg KEY, --ssh KEYFILE or --unsigned'
[[ $sign != --ssh || -f $key ]] || fail "there is no key '$key'"
out=${out:-build/release-$version}

stated=$(sed -n 's/^project(misa-prof VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
[[ $stated == "$version" ]] || fail "CMakeLists.txt says version $stated, not $version"
[[ -z $(git status --porcelain --untracked-files=no) ]] || fail 'files differ from the commit: please commit them'
notes=$(awk -v heading="## $version" '
  $0 == heading || index($0, heading " ") == 1 { inside = 1; next }
  /^## / { inside = 0 }
  inside' docs/changelog.md)
[[ -n ${notes//[[:space:]]/} ]] || fail "docs/changelog.md has no section '## $version'"
[[ ! -e $out ]] || fail "'$out' is there already"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

if [[ -z $packages ]]; then
  packages=build/packages
  scripts/package.sh "$packages" >/dev/null
fi
shopt -s nullglob
made=("$packages"/*.deb "$packages"/*.tar.gz "$packages"/*.whl)
tarballs=("$packages"/misa-prof-"$version"-*.tar.gz)
[[ ${#tarballs[@]} -eq 1 ]] || fail "'$packages' has ${#tarballs[@]} tarballs of version $version, not one"
for package in "${made[@]}"; do
  [[ $(basename "$package") =~ ^misa[-_]prof[-_]${version}[-.] ]] || fail "$(basename "$package") is not of version $version"
done

partial=$(mktemp -d)
trap 'rm -rf "$partial"' EXIT
mkdir "$partial/files" "$partial/tree"
tar -xzf "${tarballs[0]}" -C "$partial/tree" --strip-components=1
commit=$(git rev-parse --short=12 HEAD)
"$partial/tree/bin/misa-prof" --version | grep -x "commit *$commit" >/dev/null || fail "the packages are not of the commit $commit"
cp "${made[@]}" "$partial/files/"
git archive --prefix="misa-prof-$version/" HEAD | gzip -9 -n >"$partial/files/misa-prof-$version-source.tar.gz"
printf '%s\n' "$notes" | sed '/./,$!d' >"$partial/files/notes.md"
scripts/sbom.py "$partial/tree" >"$partial/files/misa-prof-$version.cdx.json"
(cd "$partial/files" && sha256sum -- * >../SHA256SUMS && mv ../SHA256SUMS .)
case $sign in
  --gpg) gpg --batch --yes --armor --local-user "$key" --detach-sign "$partial/files/SHA256SUMS" ;;
  --ssh) ssh-keygen -q -Y sign -f "$key" -n misa-prof-release "$partial/files/SHA256SUMS" ;;
esac
mkdir -p "$(dirname "$out")"
chmod 755 "$partial/files"
mv "$partial/files" "$out"
realpath "$out"/*
