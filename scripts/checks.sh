# shellcheck shell=bash
# Counts checks, for scripts that source it. $work is a folder of theirs.
: "${work:?a folder}"
passed=0 failed=0 skipped=0

# WHAT COMMAND...: the command's output is shown where it fails. No 'grep -q' behind a pipe, which may end a writer that
# is not done.
check() {
  local what=$1 start=$SECONDS status
  shift
  (set -e; "$@") >"$work/log" 2>&1  # in a condition bash would ignore set -e
  status=$?
  if [[ $status -eq 0 ]]; then
    passed=$((passed + 1))
    printf 'ok      %s, %d s\n' "$what" $((SECONDS - start))
  else
    failed=$((failed + 1))
    printf 'FAILED  %s\n' "$what"
    tail -n 30 "$work/log" | sed 's/^/        /'
  fi
}

skip() {
  skipped=$((skipped + 1))
  printf 'SKIPPED %s: %s\n' "$1" "$2"
}

# The last line: 'N passed, N failed, N skipped'. Status 1 when any failed.
end_of_checks() {
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [[ $failed -eq 0 ]]
}
