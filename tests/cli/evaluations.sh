#!/usr/bin/env bash
# evaluations.sh MOAT SCRATCH: the ball of an evaluation is that of the run's training unless another is given in
# full, and is said; one process at a time fills a folder.
set -euo pipefail
moat=$1
scratch=$2
rm -rf -- "$scratch" && mkdir -p -- "$scratch" && cd -- "$scratch"

fail() {
  printf 'evaluations: %s\n' "$1" >&2
  exit 1
}
# says REGEX COMMAND…: which succeeds, and on standard output.
says() {
  local regex=$1
  shift
  "$@" --quiet --threads 1 >out 2>err || fail "$*: $(<err)"
  grep -Eq -- "$regex" out || fail "$* does not say '$regex': $(<out)"
}
# refuses REGEX COMMAND…: in one line.
refuses() {
  local regex=$1
  shift
  if "$@" --quiet --threads 1 >out 2>err; then fail "$* succeeded"; fi
  [[ $(wc -l <err) == 1 ]] || fail "$*: not one line: $(<err)"
  grep -Eq -- "$regex" err || fail "$* does not say '$regex': $(<err)"
}
holds() { grep -Eq -- "$1" "$2" || fail "$2 does not hold '$1'"; }

says trained "$moat" train --preset digits-at-moe data.limit=64 train.epochs=1 train.steps=1 eval.validation_steps=1 \
  train.norm=l2 train.eps=2 run.dir=run  # an L2 radius that is none in L∞

# The run's norm and radius, together or not at all.
says 'on 4 images, L2 2 ' "$moat" attack run --limit 4 --steps 1 --out attacked
holds '"norm": "l2"' attacked/report.json
says '4 images, L2 2 ' "$moat" routes run --limit 4 --steps 1
says 'on 4 images, L2 2 ' "$moat" eval run --protocol pgd-10@1 eval.limit=4 eval.checks=0
says 'on 4 images, L∞ 0.1 \(25.5/255\)' "$moat" attack run --limit 4 --steps 1 --norm linf --eps 0.1 --out other
says 'on 4 images, L2 0.5 ' "$moat" attack run --limit 4 --steps 1 --eps 0.5 --out smaller
for command in 'attack run --norm linf --out refused' 'routes run --norm linf' 'certify run --out refused'; do
  # shellcheck disable=SC2086  # words
  refuses "'.*run' was trained within a radius in l2, which says nothing in linf: give --eps$" "$moat" $command
done
refuses 'says nothing in linf: give eval.eps=RADIUS$' "$moat" eval run train.norm=linf eval.dir=refused
says 'L∞ 0.1 ' "$moat" eval run train.norm=linf eval.eps=0.1 --protocol pgd-10@1 --limit 4 eval.checks=0 eval.dir=linf
refuses "train.eps must be from 0 to 1 in linf, to 5 in l2" "$moat" train --preset digits-at train.eps=6 train.norm=l2
sed -i 's/"norm": "l2"/"norm": "linf"/' run/config.json
refuses "the run's train.eps must be from 0 to 1 in linf, .* got 2" "$moat" attack run --out refused
sed -i 's/"norm": "linf"/"norm": "l2"/' run/config.json
[[ ! -e refused ]] || fail 'a refused command left its folder'

# A folder that another process fills.
mkdir taken
for command in 'eval run eval.dir=taken' 'attack run --out taken' 'certify run --eps 0.1 --out taken' \
  'mix run run --out taken'; do
  # shellcheck disable=SC2086  # words
  refuses "'taken' is in use by another process; wait for it or choose another folder" \
    flock taken "$moat" $command
done
[[ -z $(ls taken) ]] || fail 'something was written beside another process'
printf 'evaluations: all as expected\n'
