#!/usr/bin/env bash
# study.sh MOAT SCRATCH: a study trains and measures each row once, goes on where it was broken off,
# gives the same numbers with runs at once, and refuses a folder of another study.
set -euo pipefail

moat=$1
scratch=$2
rm -rf -- "$scratch"
mkdir -p -- "$scratch"

fail() {
  printf 'study: %s\n' "$1" >&2
  exit 1
}
pilot() { pilot_in pilot "$@"; }
pilot_in() {
  out=$1
  shift
  "$moat" study pilot --seeds 1 --out "$scratch/$out" --quiet --json --threads 1 data.limit=100 \
    train.epochs=1 train.steps=1 eval.validation_steps=1 eval.limit=20 eval.checks=0 "$@"
}
times() { (cd "$scratch/pilot" && find . -name '*.safetensors' -printf '%p %T@\n' | sort); }

pilot >"$scratch/first.json"
for row in standard 'robust experts' 'robust router' 'robust both' joint advmoe; do
  [[ -s "$scratch/pilot/$row seed 0/eval/pgd-50@1/report.json" ]] || fail "$row was not evaluated"
  [[ -s "$scratch/pilot/$row seed 0/parts.json" ]] || fail "the parts of $row were not measured"
done
grep -q '"start": ".*/standard seed 0"' "$scratch/pilot/robust experts seed 0/config.json" ||
  fail 'robust experts does not start with the standard run'
grep -q '"start": ".*/robust experts seed 0"' "$scratch/pilot/robust both seed 0/config.json" ||
  fail 'robust both does not start with the robust experts'
grep -q '<svg' "$scratch/pilot/study.svg" || fail 'no figure'
grep -q '<html' "$scratch/pilot/report.html" || fail 'no page'

before=$(times)
pilot >"$scratch/second.json"
cmp "$scratch/first.json" "$scratch/second.json" || fail 'the same command says something else'
[[ $(times) == "$before" ]] || fail 'something was made twice'

rm -r "$scratch/pilot/joint seed 0/eval/pgd-50@1"
pilot >"$scratch/third.json"
# Times of an evaluation are no result.
cmp "$scratch/first.json" "$scratch/third.json" || fail 'the part made anew is another one'

report="$scratch/pilot/joint seed 0/eval/pgd-50@1/report.json"
cp -- "$report" "$scratch/report.json"
for change in 's/"eps": 0.1,/"eps": 0.2,/ /threat/eps = 0.2' 's/"n": 20,/"n": 19,/ /data/n = 19' \
  's/"name": "pgd-50@1"/"name": "pgd-10@1"/ /protocol/name = "pgd-10@1"'; do
  sed -i "${change%% /*}" "$report"
  if pilot 2>"$scratch/refused" >/dev/null; then fail "an evaluation with another ${change##* /} was accepted"; fi
  grep -q "is an evaluation with /${change##* /}, asked for is .* made anew" "$scratch/refused" ||
    fail "it said: $(<"$scratch/refused")"
  cp -- "$scratch/report.json" "$report"
done

# A row that cannot run leaves the results of those before it.
mkdir "$scratch/broken"
touch "$scratch/broken/robust experts seed 0"
if pilot_in broken >/dev/null 2>&1; then fail 'a run in the place of a file was accepted'; fi
[[ $(grep -c '"runs": \[' "$scratch/broken/study.json") == 1 ]] || fail 'the first row was lost'

# Whatever the precision of the training, protocols are run in fp32.
if pilot_in bf16 --precision bf16 --without-aa >/dev/null 2>"$scratch/refused"; then
  run="$scratch/bf16/standard seed 0"
  mv -- "$run/eval/pgd-50@1" "$scratch/of the study"
  "$moat" eval "$run" --protocol pgd-50@1 --threads 1 --quiet >/dev/null
  cmp "$scratch/of the study/per_sample.csv" "$run/eval/pgd-50@1/per_sample.csv" ||
    fail 'a study in bf16 evaluates otherwise than moat eval'
else
  grep -q 'bf16' "$scratch/refused" || fail "it said: $(<"$scratch/refused")"
  printf 'study: no bf16 on this processor: %s\n' "$(<"$scratch/refused")"
fi

if pilot train.batch=64 2>"$scratch/refused" >/dev/null; then fail 'another study was accepted'; fi
grep -q 'is of a study with settings = ' "$scratch/refused" || fail "it said: $(<"$scratch/refused")"
mv -- "$scratch/pilot" "$scratch/in turn"
pilot --jobs $(($(nproc) < 2 ? 1 : 2)) >"$scratch/at once.json"
cmp "$scratch/first.json" "$scratch/at once.json" || fail 'runs at once say something else'
printf 'study: the same numbers\n'
