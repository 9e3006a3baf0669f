#!/bin/sh
# keep_ptxas_report.sh COMPILER… -o OBJECT …: runs a compiler that says what ptxas made of each
# function (nvcc -Xptxas=-v), keeps all it says in OBJECT.ptxas unless it fails, and passes on the
# rest: errors, warnings and ptxas's numbered remarks.
object=
previous=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"

"$@" 2>"$object.ptxas"
status=$?
grep -vE '^ptxas info +: ([0-9]+ bytes gmem|Compiling entry function|Function properties for|Used [0-9]+ registers|Compile time)|^ +[0-9]+ bytes stack frame' "$object.ptxas" >&2
[ $status -eq 0 ] || rm -f "$object.ptxas"
exit $status
