#!/usr/bin/env bash
# tests/fuzz/run.sh READER [CPU_SECONDS]: attacks a reader with libFuzzer, from its corpus, until the
# process has used that much CPU time (default 600); inputs that reach something new are kept in
# build/fuzz/corpus/READER. Stops at the first finding, whose input lies in build/fuzz/findings.
#
#   cmake --preset fuzz && cmake --build --preset fuzz
set -euo pipefail
reader=$1 seconds=${2:-600}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$here/../.." && pwd)/build/fuzz
found=$build/corpus/$reader
mkdir -p "$found" "$build/findings"

# A finding is also what takes a minute (of the clock: the machine may be busy), or memory that no file of this size is worth.
OMP_NUM_THREADS=1 nice -n 19 "$build/tests/fuzz/fuzz_$reader" -timeout=60 -rss_limit_mb=2048 \
  -malloc_limit_mb=1024 -max_len=8192 -len_control=0 -print_final_stats=1 \
  -artifact_prefix="$build/findings/$reader-" "$found" "$here/corpus/$reader" &
pid=$!
trap 'rm -rf "/dev/shm/fuzz-$pid"' EXIT  # libFuzzer ends without clearing up
ticks_per_second=$(getconf CLK_TCK) used=0
while sleep 1 && read -ra stat <"/proc/$pid/stat"; do
  used=$(((stat[13] + stat[14]) / ticks_per_second))
  # Asked so, it ends after the input at hand and prints what was done.
  ((used < seconds)) || kill -USR1 "$pid"
done 2>/dev/null
echo "run.sh: $reader, $used s of CPU time"
wait "$pid"
