#!/usr/bin/env bash
# The two steps of action.yml, whose inputs come as MISA_*: `install` puts misa-prof on the path of later steps, `run`
# runs it, keeps its results and shows them in the summary of the job. Everything else is GitHub's environment.
set -euo pipefail

fail() {
  printf '::error title=misa-prof::%s\n' "$*"
  exit 2
}

install_package() {
  local package=$MISA_PACKAGE home=$RUNNER_TEMP/misa-prof as_root=()
  if [[ -z $package ]]; then
    [[ -n $MISA_VERSION ]] || fail "this step needs 'package', a file, or 'version', a release"
    [[ -n $MISA_REPOSITORY ]] || fail "an action of the same repository has no releases; please give 'package', a file"
    local name url=$GITHUB_SERVER_URL/$MISA_REPOSITORY/releases/download/v$MISA_VERSION
    name=misa-prof-$MISA_VERSION-linux-$(uname -m).tar.gz
    mkdir -p "$home"
    for file in SHA256SUMS "$name"; do
      curl --fail --silent --show-error --location --retry 3 -o "$home/$file" "$url/$file" || fail "cannot fetch $url/$file"
    done
    (cd "$home" && grep -F "  $name" SHA256SUMS | sha256sum --check --quiet -) || fail "$name is not what SHA256SUMS says"
    package=$home/$name
  fi
  [[ -f $package ]] || fail "there is no file '$package'"
  case $package in
    *.whl)
      python3 -m venv "$home"
      "$home/bin/python" -m pip --disable-pip-version-check install --quiet "$package"
      ;;
    *.tar.gz)
      mkdir -p "$home"
      tar -xzf "$package" -C "$home" --strip-components=1
      ;;
    *.deb)
      [[ $(id -u) == 0 ]] || as_root=(sudo)
      "${as_root[@]}" apt-get -qq -y install "$(realpath "$package")"
      home=/usr
      ;;
    *) fail "'$package' is no .whl, .deb or .tar.gz" ;;
  esac
  printf '%s\n' "$home/bin" >>"$GITHUB_PATH"
  "$home/bin/misa-prof" --version
}

run_command() {
  local words=() status=0 results=$MISA_RESULTS
  # xargs understands quotes and expands nothing.
  mapfile -d '' -t words < <(xargs printf '%s\0' <<<"$MISA_COMMAND")
  local command=${words[0]:-} junit=''
  local json=$results/$command.json markdown=$results/$command.md
  mkdir -p "$results"
  case $command in
    compare)
      junit=$results/compare.xml
      words+=(-o - -o "json:$json" -o "junit:$junit")
      [[ $MISA_ANNOTATE != true ]] || words+=(--annotate)
      [[ -z $MISA_MAX_SLOWDOWN ]] || fail "'max-slowdown' is for profile --ab"
      ;;
    profile)
      words+=(-o - -o "json:$json" -o "md:$markdown")
      [[ -z $MISA_MAX_SLOWDOWN ]] || words+=(--max-slowdown "$MISA_MAX_SLOWDOWN")
      ;;
    *) fail "'command' begins with compare or profile, not '$command'" ;;
  esac
  misa-prof "${words[@]}" | tee "$results/$command.txt" || status=$?
  if [[ $command == compare ]]; then sed 's/^/    /' "$results/compare.txt" >"$markdown"; fi
  if [[ -s $markdown ]]; then cat "$markdown" >>"$GITHUB_STEP_SUMMARY"; fi
  printf '%s\n' "status=$status" "json=$json" "junit=$junit" "markdown=$markdown" >>"$GITHUB_OUTPUT"
  return "$status"
}

case ${1:-} in
  install) install_package ;;
  run) run_command ;;
  *) fail 'usage: action.sh install|run' ;;
esac
