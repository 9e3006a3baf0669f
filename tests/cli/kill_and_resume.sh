#!/usr/bin/env bash
# kill_and_resume.sh MOAT SCRATCH: a run killed with kill -9 in the middle, and again, then resumed,
# must leave the bytes of an uninterrupted run; an evaluation and a certification as well. Also: an evaluation must not
# depend on the threads.
set -euo pipefail

moat=$1
scratch=$2
rm -rf -- "$scratch"
mkdir -p -- "$scratch"

train() { # DIR ARGUMENT…; the shell becomes the program, so that kill reaches it
  exec "$moat" train --preset demo-advmoe --threads 1 --quiet \
    data.limit=384 train.epochs=4 train.steps=3 eval.validation_steps=2 "run.dir=$scratch/$1" "${@:2}"
}
fail() {
  printf 'kill_and_resume: %s\n' "$1" >&2
  exit 1
}
finished_epochs() { grep -c '"event":"epoch"' "$scratch/parts/events.jsonl" 2>/dev/null || true; }

# The program, no longer the shell before it, has a handler for SIGINT: bit 1 of the caught signals.
listens() {
  [[ $(readlink -f "/proc/$1/exe") == "$(readlink -f "$moat")" ]] &&
    (($(sed -n 's/^SigCgt:[[:space:]]*/0x/p' "/proc/$1/status") & 2))
}
# interrupted LOG PROCESS: by Ctrl-C as soon as it listens.
interrupted() {
  until listens "$2" 2>/dev/null; do
    kill -0 "$2" 2>/dev/null || fail "it ended: $(<"$scratch/$1")"
    sleep 0.02
  done
  kill -INT "$2"
  wait "$2" && fail "what was interrupted ended well: $(<"$scratch/$1")"
  return 0
}

# killed WHAT COMMAND…: a tenth of a second after its start.
killed() {
  "${@:2}" >/dev/null 2>&1 &
  local victim=$!
  sleep 0.1
  kill -9 "$victim" 2>/dev/null || fail "the $1 was over before it could be killed"
  wait "$victim" 2>/dev/null && fail "the killed $1 ended well"
  return 0
}

# Kills the run once it has finished $1 epochs and is somewhere in the next.
kill_after() {
  train parts --resume auto >/dev/null &
  local victim=$! waited=0
  until [[ $(finished_epochs) -ge $1 ]]; do
    ((++waited < 6000)) || fail "no epoch $1 within two minutes"
    kill -0 "$victim" 2>/dev/null || fail "the run ended before epoch $1"
    sleep 0.02
  done
  sleep "$2"
  kill -9 "$victim" || fail "the run was over before it could be killed after epoch $1"
  wait "$victim" 2>/dev/null && fail 'the killed run ended well'
  return 0
}

train "ear ly" train.steps=50 >"$scratch/early.log" 2>&1 &
interrupted early.log $!
grep -Fq "stopped in the first epoch, of which nothing is kept; begin again with: moat train 'run.dir=$scratch/ear ly' --resume auto" \
  "$scratch/early.log" || fail "of a first epoch it said: $(<"$scratch/early.log")"

(train whole) >/dev/null
kill_after 1 0.03
kill_after 2 0.1
[[ -s $scratch/parts/checkpoints/last.state.safetensors ]] || fail 'no state was left'
(train parts --resume auto) >/dev/null

for file in last.safetensors last.state.safetensors best.safetensors; do
  cmp "$scratch/whole/checkpoints/$file" "$scratch/parts/checkpoints/$file" ||
    fail "$file differs from the uninterrupted run's"
done
cmp <(sed 's/,[^,]*$//' "$scratch/whole/metrics.csv") <(sed 's/,[^,]*$//' "$scratch/parts/metrics.csv") ||
  fail 'metrics.csv differs (without its last column, the seconds)'

for threads in 1 2; do
  "$moat" eval "$scratch/whole" --threads "$threads" --quiet eval.limit=100 eval.checks=0 \
    "eval.dir=$scratch/eval-$threads" >/dev/null
done
for file in per_sample.csv adversarial.safetensors; do
  cmp "$scratch/eval-1/$file" "$scratch/eval-2/$file" || fail "$file differs between 1 and 2 threads"
done

# An evaluation interrupted by Ctrl-C, which keeps its state, then killed, then continued.
evaluate() { # DIR
  exec "$moat" eval "$scratch/whole" --protocol pgd-50@1 --threads 1 --quiet eval.checks=0 \
    eval.limit=300 eval.batch=2 "eval.dir=$scratch/$1"
}
(evaluate undisturbed) >/dev/null
evaluate disturbed >"$scratch/disturbed.log" 2>&1 &
interrupted disturbed.log $!
[[ -s $scratch/disturbed/state.safetensors ]] ||
  fail "no state of the evaluation was left: $(<"$scratch/disturbed.log")"
killed evaluation evaluate disturbed
(evaluate disturbed) >/dev/null
[[ ! -e $scratch/disturbed/state.safetensors ]] || fail 'the state of a finished evaluation is left'
for file in per_sample.csv adversarial.safetensors; do
  cmp "$scratch/undisturbed/$file" "$scratch/disturbed/$file" ||
    fail "$file differs from the undisturbed evaluation's"
done

# In its checks, when all attacks are over.
check() {
  exec "$moat" eval "$scratch/whole" --protocol pgd-10@1 --threads 1 --quiet eval.checks=20 eval.limit=40 "eval.dir=$scratch/checked"
}
check >"$scratch/checked.log" 2>&1 &
victim=$!
until [[ -s $scratch/checked/gallery.png ]]; do
  kill -0 "$victim" || fail "it ended: $(<"$scratch/checked.log")"
  sleep 0.02
done
interrupted checked.log "$victim"
grep -q '^moat: stopped in the checks; the same command goes on from here$' "$scratch/checked.log" ||
  fail "in its checks it said: $(<"$scratch/checked.log")"
[[ -s $scratch/checked/state.safetensors ]] || fail 'what was stopped in its checks has lost its attacks'
(check) >/dev/null
[[ -s $scratch/checked/report.json && ! -e $scratch/checked/state.safetensors ]] || fail 'no report, or a state beside it'

# A certification likewise.
certify() { # DIR ARGUMENT…
  exec "$moat" certify "$scratch/whole" --threads 1 --quiet --limit 8 --batch 1 --eps 0.001,0.1 --protocol pgd-10@1 \
    --out "$scratch/$1" "${@:2}"
}
(certify proven) >/dev/null
certify halves >"$scratch/halves.log" 2>&1 &
interrupted halves.log $!
grep -Eq '^moat: stopped after [1-8] of 8 images; the same command goes on from here$' "$scratch/halves.log" ||
  fail "a certification said: $(<"$scratch/halves.log")"
(certify halves --seed 7) >"$scratch/other.log" 2>&1 && fail 'another certification went on with a state'
grep -q 'begun with another --protocol or --seed goes on with that alone; choose another folder, or remove' \
  "$scratch/other.log" || fail "of another one's state it said: $(<"$scratch/other.log")"
killed certification certify halves
(certify halves) >/dev/null
[[ -z $(find "$scratch/halves" -name '*.safetensors') ]] || fail 'the state of a finished certification is left'
cmp "$scratch/proven/radii.csv" "$scratch/halves/radii.csv" || fail "radii.csv differs from the undisturbed one's"
cmp <(grep -v '^  "seconds"' "$scratch/proven/certificate.json") \
  <(grep -v '^  "seconds"' "$scratch/halves/certificate.json") || fail 'certificate.json differs'

# A curve likewise; at its smallest radius it is what an evaluation there finds.
curve() { # DIR
  exec "$moat" curve "$scratch/whole" --threads 1 --quiet --limit 200 --batch 2 --eps 0.02,0.1,0.2 --out "$scratch/$1"
}
(curve drawn) >/dev/null
curve resumed >"$scratch/resumed.log" 2>&1 &
interrupted resumed.log $!
killed curve curve resumed
(curve resumed) >/dev/null
[[ ! -e $scratch/resumed/state.safetensors ]] || fail 'the state of a finished curve is left'
cmp "$scratch/drawn/curve.json" "$scratch/resumed/curve.json" || fail 'curve.json differs'
cmp "$scratch/drawn/curve.svg" "$scratch/resumed/curve.svg" || fail 'curve.svg differs'
"$moat" eval "$scratch/whole" --protocol pgd-50@1 --threads 1 --quiet eval.checks=0 eval.eps=0.02 eval.limit=200 \
  "eval.dir=$scratch/at-0.02" >/dev/null
first() { grep -om1 '"robust": [0-9.]*' "$scratch/$1"; }
[[ $(first drawn/curve.json) == "$(first at-0.02/report.json)" ]] ||
  fail "at its smallest radius a curve has $(first drawn/curve.json), an evaluation $(first at-0.02/report.json)"
mapfile -t robust < <(sed -n 's/.*"robust_correct": \([0-9]*\).*/\1/p' "$scratch/drawn/curve.json")
((${#robust[@]} == 3 && robust[0] >= robust[1] && robust[1] >= robust[2] && robust[0] > robust[2])) ||
  fail "a curve does not fall: ${robust[*]}"
printf 'kill_and_resume: the same bytes\n'
