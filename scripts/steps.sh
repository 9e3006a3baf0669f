# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: where the repository is, and steps with their times.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build_jobs=$(nproc)

now() { date +%s.%N; }
seconds_since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", to - from }'; }

# step TITLE COMMAND…: runs the command, says what and how long; a failure names the step and ends
# the script with the command's exit status. In a shell of its own, where `set -e` ends a function at
# its first command that fails (beside `||` it would go on).
step() {
  local title=$1 from status
  shift
  from=$(now)
  printf '==> %s\n' "$title"
  set +e
  (set -e && "$@")
  status=$?
  set -e
  if ((status)); then
    printf '==> %s: failed after %s s (exit %d)\n' "$title" "$(seconds_since "$from")" "$status" >&2
    exit "$status"
  fi
  printf '==> %s: %s s\n' "$title" "$(seconds_since "$from")"
}

usage_error() {
  printf '%s: %s\n' "$(basename "$0")" "$1" >&2
  exit 2
}

# The header comment of a script is its --help.
print_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"; }
