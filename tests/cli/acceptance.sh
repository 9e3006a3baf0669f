#!/usr/bin/env bash
# acceptance.sh RUNNER FOLDER: the acceptance run of a bundle whose programs are stand-ins. Without a
# GPU it says so and exits 0; a failing part makes it exit 1; what it writes is JSON, also where it is killed.
# shellcheck disable=SC2016  # the stand-ins' text is not ours to expand
set -euo pipefail
runner=$1 folder=$2
rm -rf -- "$folder"
mkdir -p "$folder/bundle/scripts" "$folder/tools"
cp -- "$runner" "$folder/bundle/run"
echo 'abc-dirty' >"$folder/bundle/revision"

program() { # NAME BODY
  printf '#!/bin/bash\n%s\n' "$2" >"$folder/$1"
  chmod +x "$folder/$1"
}
fail() { echo "acceptance: $1" >&2 && exit 1; }
json_of() { # FILE PATH…: what stands there
  printf 'file(READ "%s" text)\nstring(JSON value GET "${text}" %s)\nmessage("${value}")\n' \
    "$1" "${*:2}" >"$folder/get.cmake"
  cmake -P "$folder/get.cmake" 2>&1
}
run() { # NAME OPTION…
  PATH=$folder/tools:$PATH "$folder/bundle/run" --out "$folder/$1.json" "${@:2}" >"$folder/$1.log" 2>&1
}
verdict() { # FILE PART
  local i name
  for i in $(seq 0 31); do  # more than there are
    name=$(json_of "$folder/$1.json" parts "$i" name) || return 0
    [[ $name != "$2" ]] || json_of "$folder/$1.json" parts "$i" verdict
  done
}

program bundle/moat 'if [[ $* == *--json* ]]; then
  printf "{\n  \"cases\": [\n    {\n      \"name\": \"%s-step\",\n      \"images_per_second\": 12.75,\n" "$2"
  printf "      \"options\": \"%s\"\n    }\n  ]\n}\n" "$*"
  exit
fi
while (($#)); do [[ $1 != --out ]] || echo "{\"rows\": []}" >"$2"; shift; done
printf "says \"this\"\tand\\\\ that\n"'
program bundle/bench-kernels-cuda 'echo "bench-kernels-cuda: no usable GPU: stand-in" >&2; exit 1'
program bundle/moat_cuda_tests 'echo "skipped: no usable GPU"; exit 77'
program bundle/moat_cuda_engine_tests 'echo "skipped: no usable GPU"; exit 77'
program bundle/scripts/demo '[[ $* == "--moat ./moat --out "*/demo ]]'
program tools/nvidia-smi 'exit 9'
program tools/cuobjdump 'echo "HGMMA.64x128x16"'

run none || fail 'without a GPU the exit status must be 0'
grep -q 'no GPU here (bench-kernels-cuda: no usable GPU: stand-in)' "$folder/none.log" ||
  fail 'it must say that there is no GPU'
[[ $(verdict none cuda_tests) == skipped ]] || fail 'the CUDA tests must be skipped'
[[ $(verdict none hgmma) == passed ]] || fail 'machine code needs no GPU'
[[ $(json_of "$folder/none.json" machine revision) == abc-dirty ]] || fail 'the revision is missing'
[[ $(json_of "$folder/none.json" parts 0 output_tail) == *'says "this" and\ that'* ]] ||
  fail 'the output of a part must come through'
json_of "$folder/none.json" bench_cpu rows >/dev/null || fail 'the CPU rows are missing'

# Killed while its last part runs.
program tools/cuobjdump "touch '$folder/begun'; sleep 30"
PATH=$folder/tools:$PATH "$folder/bundle/run" --out "$folder/killed.json" >"$folder/killed.log" 2>&1 &
for _ in {1..300}; do [[ -e $folder/begun ]] || sleep 0.1; done
kill -KILL $! && { wait $! || true; }
[[ $(verdict killed cpu_kernels) == passed ]] || fail 'a killed run must leave what was done'
json_of "$folder/killed.json" bench_cpu rows >/dev/null || fail 'a killed run must leave the CPU rows'
program tools/cuobjdump 'echo "HGMMA.64x128x16"'
if run unmeasured --seconds soon; then fail '--seconds must be a number'; fi
grep -qx "run: --seconds needs a whole number from 1 on, not 'soon'" "$folder/unmeasured.log" || fail 'it must be told so'

program tools/nvidia-smi 'echo "NVIDIA Stand-in"'
program tools/compute-sanitizer 'shift 4 && "$@" && echo "========= ERROR SUMMARY: 0 errors"'
program bundle/bench-kernels-cuda 'while (($#)); do [[ $1 != --out ]] || echo "{\"rows\": [1]}" >"$2"; shift; done'
# Tests that append what they were to run; the name "breaks" fails, and so does everything beside it.
test_program() { # NAME CASE…
  program "bundle/$1" "case \$1 in
  --list-test-names-only) printf '%s\n' $(printf "'%s' " "${@:2}"); exit 3 ;;
  -f) cat \"\$2\" >>'$folder/$1.ran'; if grep -q breaks \"\$2\"; then echo broke; exit 42; fi
    echo \"All tests passed (9 assertions in \$((\$(wc -l <\"\$2\") - ${miscount:-0})) test cases)\" ;;
esac"
  rm -f -- "$folder/$1.ran"
}
test_program moat_cuda_tests 'softmax, large' {a..t}
test_program moat_cuda_engine_tests 'a step'
run gpu || fail 'with a GPU and nothing wrong the exit status must be 0'
for part in cpu_info cuda_tests engine_tests instructions bench_train bench_attack demo kernels hgmma memcheck racecheck; do
  [[ $(verdict gpu "$part") == passed ]] || fail "$part must pass"
done
grep -qx 'softmax\\, large' "$folder/moat_cuda_tests.ran" || fail 'a comma must be escaped'
grep -q '^cuda_tests .* 21 test cases, 0 failed$' "$folder/gpu.log" || fail 'the test cases must be counted'
# By cuda_tests, instructions, memcheck and racecheck.
[[ $(sort "$folder/moat_cuda_tests.ran" | uniq -c | awk '$1 == 4' | wc -l) == 21 ]] || fail 'every test case must run once'
[[ $(json_of "$folder/gpu.json" bench_kernels rows) == *1* ]] || fail 'the GPU rows are missing'
[[ $(json_of "$folder/gpu.json" bench_train cases 0 options) == 'bench train --device cuda --precision bf16 --batch 512 --json' ]] ||
  fail 'the training steps are missing'
[[ $(json_of "$folder/gpu.json" bench_attack cases 0 name) == attack-step ]] || fail 'the attacks are missing'
grep -q '^bench_train .* train-step 12 images/s$' "$folder/gpu.log" || fail 'images/s must be told'

run study --images "$folder/tools" || fail 'images must be studied'
grep -q " data.path=$folder/tools .* data.name=imagefolder " "$folder/study.json" ||
  fail 'a folder of pictures must be read as one'

parts_of() { awk '$2 ~ /^(passed|skipped)$/ { print $1, $2 }' "$folder/$1.log" | xargs; }
run some --parts demo,cuda_tests || fail 'chosen parts must run'
[[ $(parts_of some) == 'cuda_tests passed demo passed' ]] || fail 'chosen parts alone must run, in the order of the run'
if run unknown --parts demo,kernel; then fail 'an unknown part must be refused'; fi
grep -qE "^run: there is no part 'kernel'; --parts takes .*hgmma,instructions,kernels,memcheck" "$folder/unknown.log" ||
  fail 'it must say which there are'
# A bundle for some parts, from which one program is gone.
echo hgmma,engine_tests,demo >"$folder/bundle/parts"
mv -- "$folder/bundle/bench-kernels-cuda" "$folder/absent"
run for_some || fail 'a bundle for some parts must run'
[[ $(parts_of for_some) == 'engine_tests passed demo passed hgmma skipped' ]] || fail 'it must run these alone'
grep -qE '^hgmma +skipped +not in this bundle$' "$folder/for_some.log" || fail 'it must be said that a program is absent'
mv -- "$folder/absent" "$folder/bundle/bench-kernels-cuda"
rm -- "$folder/bundle/parts"

run hurried --seconds 5 || fail 'what there is no time for does not fail'
[[ $(verdict hurried kernels) == skipped ]] || fail 'without time nothing is begun'

miscount=1 test_program moat_cuda_engine_tests 'a step' 'two steps'
if run uncounted; then fail 'test cases that did not run must fail'; fi
grep -q '^failed: two steps (not when alone)$' "$folder/uncounted.log" || fail 'they must be named'
test_program moat_cuda_engine_tests 'a step'

cp -- "$folder/bundle/moat" "$folder/bundle/whole"
program bundle/moat '"${0%/*}/whole" "$@"; [[ $* != *train*--json* ]] || { echo "moat: one failed" >&2; exit 1; }'
if run part_failed; then fail 'a case that fails must make the run fail'; fi
[[ $(verdict part_failed bench_train) == failed ]] || fail 'training steps of which one failed must be reported'
[[ $(json_of "$folder/part_failed.json" bench_train cases 0 name) == train-step ]] || fail 'the others must be kept'
mv -- "$folder/bundle/whole" "$folder/bundle/moat"

program tools/cuobjdump 'echo FFMA'
program tools/compute-sanitizer 'echo "Error: Device not supported"; exit 1'
test_program moat_cuda_tests {a..k} breaks {l..t}
if run broken; then fail 'a failing part must make the run fail'; fi
[[ $(verdict broken cuda_tests) == failed ]] || fail 'failing tests must be reported'
grep -q '^failed: breaks$' "$folder/broken.log" || fail 'the test case that fails must be named'
grep -q ' 21 test cases, 1 failed$' "$folder/broken.log" || fail 'test cases beside it do not fail'
[[ $(verdict broken memcheck) == skipped ]] || fail 'a refused device is no finding'
[[ $(verdict broken hgmma) == failed ]] || fail 'machine code without HGMMA must be reported'

program tools/ldd 'echo "libcudnn.so.9 => not found"'
if run absent; then fail 'a machine without cuDNN must be refused'; fi
grep -q 'run: this machine lacks libcudnn.so.9.*LD_LIBRARY_PATH' "$folder/absent.log" || fail 'the library must be named'
echo 'acceptance: all as expected'
