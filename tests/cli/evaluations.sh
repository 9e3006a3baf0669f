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
# Of tokens there are tables per layer.
says trained "$moat" train --preset digits-v-moe-at data.limit=64 train.epochs=1 train.warmup_epochs=0 train.steps=1 \
  eval.validation_steps=1 run.dir=tokens
says '^choices of all ' "$moat" routes tokens --limit 4 --steps 1
says '"replayed_routes"' "$moat" routes tokens --limit 4 --steps 1 --json
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

# What chose the checkpoint is in it; a finished evaluation says how to choose another folder.
holds '"selected_on": "none"' attacked/report.json
refuses 'never overwritten; choose another folder with eval.dir=FOLDER$' "$moat" eval run --protocol pgd-10@1 --limit 4
refuses 'never overwritten; choose another folder with --out FOLDER$' "$moat" attack run --limit 4 --out attacked
# Of classes without images there is no accuracy.
holds '"clean": null' attacked/report.json
says '^run ' "$moat" report run
# A run that is not over.
cp -r run half
sed -i 's/"epochs": 1,/"epochs": 3,/' half/config.json
says '^unfinished: 1 of 3 epochs, ' "$moat" eval half --protocol pgd-10@1 --limit 4 eval.checks=0 eval.dir=half/other
says '^unfinished: 1 of 3 epochs, ' "$moat" attack half --limit 4 --steps 1 --out half/attacked
says '^half \(unfinished: 1 of 3 epochs\) ' "$moat" report half --out half.html
holds 'unfinished: 1 of 3 epochs' half.html
says '"unfinished": "unfinished: 1 of 3 epochs"' "$moat" report half --out half.html --json
says '"unfinished": null' "$moat" report run --out run.html --json
# It goes on with what it was begun with, and as that alone.
says 'trained 3 epochs' "$moat" train run.dir=half --resume auto train.epochs=3
says 'already finished' "$moat" train run.dir=half --resume auto
refuses 'give --preset NAME or --config FILE' "$moat" train run.dir=half
refuses "--out must be the name of a page, which ends in .html, got 'run/config.json'" "$moat" report run --out run/config.json
refuses "^moat: cannot make the folder 'run/config.json': Not a directory$" "$moat" report run --out two.html --charts run/config.json
refuses "a run must be given once, got 'run/' twice" "$moat" report run run/
mkdir -p elsewhere && cp -r run elsewhere/run
says '^elsewhere/run ' "$moat" report run elsewhere/run --out two.html

# Certificates: no column of an attack that is none, and a row that proves something.
cp -r run certified
sed -i -e 's/"norm": "l2"/"norm": "linf"/' -e 's/"eps": 2.0,/"eps": 1.0,/' certified/config.json
says '^eps ' "$moat" certify certified --limit 8 --protocol none
! grep -q 'after none' out || fail 'certify has a column of no attack'

# An attack meets gates through and blocked, the one asked for alone with --gate; a dense net meets it once.
holds '"pgd through": ' attacked/report.json && holds '"pgd blocked": ' attacked/report.json
says '^pgd blocked ' "$moat" attack run --limit 4 --steps 1 --gate blocked --out blocked
! grep -q through blocked/report.json || fail '--gate blocked ran another form'
refuses "^moat: --auxiliary is for a v-moe .* digits-moe-resnet has no auxiliary losses; leave it out$" \
  "$moat" attack run --auxiliary 1 --out refused
refuses '^moat: --attack carlini-wagner minimises the L2 norm; give --norm l2 and a radius of it' \
  "$moat" attack run --attack carlini-wagner --norm linf --eps 0.1 --out refused
refuses '^moat: --gate is no setting of --attack frozen-route, whose gradient passes none$' \
  "$moat" attack run --attack frozen-route --gate blocked --out refused

# A V-MoE whose images share room is attacked with room of their own, and what was attacked is said.
says trained "$moat" train --preset digits-v-moe-at data.limit=64 train.epochs=1 train.steps=1 eval.validation_steps=1 \
  train.warmup_epochs=0 model.capacity=0.5 model.group=8 run.dir=shared
for command in 'eval shared eval.dir=refused' 'attack shared --out refused' \
  'attack shared --gate blocked --out refused' 'routes shared' 'mix shared shared --out refused' \
  'attack run --attack transfer --source shared --norm linf --eps 0.1 --out refused'; do
  # shellcheck disable=SC2086  # words
  refuses "must give each image a result of its own, .* other 7 images of its group; model.group=1 or model.capacity=0 ends that$" \
    "$moat" $command
done
refuses "must give each image a result of its own, .* other images of its batch; model.group=1 or model.capacity=0 ends that$" \
  "$moat" study pilot model.name=digits-v-moe model.capacity=0.5 --out refused
[[ ! -e refused ]] || fail 'a refused command left its folder'
refuses "^moat: of a trained model only model.capacity, model.group or model.priority can be set, .* got model.experts=2$" \
  "$moat" eval shared model.experts=2
refuses '^moat: --attack router-only is for models whose gate chooses a route for an image, and digits-v-moe has none$' \
  "$moat" attack shared model.group=1 --attack router-only --out refused
refuses "^moat: model.group=1 needs a v-moe, and digits-moe-resnet has no experts of tokens" "$moat" routes run model.group=1
says '^sign-40 auxiliary blocked ' "$moat" eval shared model.capacity=1.5 model.group=1 --protocol sign-40@1 eval.limit=4 \
  eval.checks=0 eval.dir=own
holds '"capacity": 1.5' own/report.json && holds '"group": 1' own/report.json
# With another room it is another evaluation, and another row.
says 'clean ' "$moat" eval shared model.capacity=0 --protocol sign-40@1 eval.limit=4 eval.checks=0
refuses 'never overwritten; choose another folder with eval.dir=FOLDER$' "$moat" eval shared model.group=1 --protocol sign-40@1
says 'clean ' "$moat" eval shared model.group=1 --protocol sign-40@1 eval.limit=4 eval.checks=0 eval.dir=shared/eval/less
says '^shared .* capacity 0.5, order ' "$moat" report shared
grep -q '^shared .* room for all ' out || fail 'the report lacks a room'
says '"capacity": 0.0,' "$moat" attack shared model.capacity=0 --attack sign-steps --auxiliary 1 --limit 4 --out all --json
holds '"keep": "the last point"' all/report.json && holds '"auxiliary": 1.0' all/report.json
says '"priority": "best-gate"' "$moat" routes shared model.group=1 model.priority=best-gate --limit 4 --steps 1 --json
says '"capacity": 0.0,' "$moat" predict shared model.capacity=0 --input all/adversarial.safetensors --out logits --json
says exported "$moat" export shared model.capacity=0 --out whole
says 'clean ' "$moat" eval whole eval.eps=0.1 --protocol pgd-10@1 --limit 4 eval.checks=0 eval.dir=whole-eval
holds '"capacity": 0.0,' whole-eval/report.json

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
