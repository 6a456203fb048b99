#!/usr/bin/env bash
# A git hook for your repository: no commit whose kernels select other tokens than the goldens say. It takes seconds.
#
#   cp scripts/pre-commit.sh YOUR-REPOSITORY/.git/hooks/pre-commit
#   git config misa.compare '--backend plugin:build/libmine.so --against goldens'   # options of compare
#   git config misa.paths '*.cu *.cpp'     # only for commits that change these; without it, for every commit
#   git config misa.build 'make -s'        # is run before, where it is set
# MISA_SKIP=1 git commit ...  passes it by.
set -euo pipefail

[[ -z ${MISA_SKIP:-} ]] || exit 0
read -ra paths <<<"$(git config misa.paths || true)"
if [[ ${#paths[@]} -gt 0 ]] && git diff --cached --quiet -- "${paths[@]}"; then exit 0; fi
if build=$(git config misa.build); then bash -c "$build"; fi
mapfile -d '' -t options < <(git config misa.compare | xargs printf '%s\0')
if [[ ${#options[@]} -eq 0 || -z ${options[0]} ]]; then options=(--against goldens); fi
status=0
misa-prof compare "${options[@]}" >&2 || status=$?
[[ $status -eq 0 ]] || printf 'pre-commit: misa-prof ended with status %d, so nothing is committed\n' "$status" >&2
exit "$status"
