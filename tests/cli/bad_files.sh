#!/usr/bin/env bash
# bad_files.sh MOAT SCRATCH: what the program says to files that are missing, damaged, hostile or do not
# belong together, and to a full disk: one line, exit 1 or 2, nothing overwritten, nothing lost.
set -uo pipefail
moat=$1
scratch=$2
golden=$(cd "$(dirname "${BASH_SOURCE[0]}")/../golden" && pwd)
rm -rf "$scratch" && mkdir -p "$scratch" && cd "$scratch" || exit 1
count=0
failures=0

# check REGEX CODE: of the last command, whose exit code is CODE.
check() {
  local wrong=
  [[ $2 == 1 || $2 == 2 ]] || wrong+=" exit $2;"
  [[ $(wc -l <err) == 1 && $(<err) == moat:* ]] || wrong+=' not one line;'
  grep -Eq -- "$1" err || wrong+=" does not say '$1';"
  [[ -s out ]] && wrong+=' standard output is not empty;'
  [[ ! -d run || $(tree run) == "$kept" ]] || wrong+=' the run changed;'
  count=$((count + 1))
  [[ -z $wrong ]] && return
  failures=$((failures + 1))
  printf '%s:%s it said: %s\n' "$command" "$wrong" "$(head -c 600 err)"
}
# refuses REGEX ARGUMENT…
refuses() {
  local regex=$1
  shift
  command="moat $*"
  "$moat" "$@" >out 2>err </dev/null
  check "$regex" $?
}
# must CONDITION…: what the refused commands left.
must() {
  count=$((count + 1))
  "$@" && return
  failures=$((failures + 1))
  echo "after $command: not so: $*"
}
tree() { find "$1" -type f -exec sha256sum {} + | sort; }

bytes() { printf '%b' "$(printf '\\x%s' "$@")"; }
zeros() { head -c "$1" /dev/zero; }
# safetensors HEADER [DATA_BYTES]: to standard output, the data being zeros.
safetensors() {
  local length=${#1} i
  for ((i = 0; i < 8; i++)); do bytes "$(printf '%02x' $(((length >> (8 * i)) & 255)))"; done
  printf '%s' "$1"
  zeros "${2:-0}"
}
# edited FILE FROM TO: a golden network with other text, of the same length, in its header.
edited() { LC_ALL=C sed "s/$2/$3/" "$golden/moe-softmax.safetensors" >"$1"; }

tiny=(--preset digits-at data.limit=16 train.steps=1 eval.validation_steps=1 --quiet --threads 1)
image='"images":{"dtype":"F32","shape":[1,1,8,8],"data_offsets":[0,256]}'
label='"labels":{"dtype":"I64","shape":[1],"data_offsets":[256,264]}'
"$moat" train "${tiny[@]}" train.epochs=1 run.dir=run >out 2>err || { cat err && exit 1; }
kept=$(tree run)

# Runs and checkpoints.
model=run/checkpoints/last.safetensors
refuses "there is no 'absent'" eval absent
refuses "must be a run folder with a checkpoint" eval "$golden"
refuses 'must be a JSON object|JSON|safetensors' eval "$golden/make_golden.py"
refuses 'finished run .*never overwritten; choose another run.dir' \
  train "${tiny[@]}" train.epochs=1 run.dir=run
refuses 'other files' train "${tiny[@]}" run.dir="$golden"
refuses "'$model' is a file" train "${tiny[@]}" run.dir="$model"
refuses 'started with train.batch = 128, now it is 64' \
  train "${tiny[@]}" train.epochs=2 train.batch=64 run.dir=run --resume auto
refuses '--resume must be auto or never' train "${tiny[@]}" run.dir=other --resume always
must test ! -e other
for size in 0 7 100 9000; do
  head -c "$size" "$model" >short.safetensors
  refuses 'short.safetensors' eval short.safetensors eval.dir=evaluated
  refuses 'short.safetensors' attack short.safetensors --out attacked
  refuses 'short.safetensors' predict short.safetensors --input x --out y
done
# Of any size: its digest and its tensors are read as they are needed.
safetensors '{}' >large.safetensors && truncate -s 1100M large.safetensors
refuses 'safetensors .*tensors must cover all' eval large.safetensors eval.dir=evaluated
rm large.safetensors
edited classes.safetensors 'classes\\": 5' 'classes\\": 0'
refuses 'classes must be a whole number from 2' eval classes.safetensors eval.dir=evaluated
edited classes.safetensors 'classes\\": 5' 'classes\\": 6'
refuses "'fc.weight' must be" eval classes.safetensors eval.dir=evaluated
edited experts.safetensors 'experts\\": 3' 'experts\\": 2'
refuses 'must be .*got' eval experts.safetensors eval.dir=evaluated
edited name.safetensors '"fc.bias"' '"cf.bias"'
refuses "needs a tensor 'fc.bias'" eval name.safetensors eval.dir=evaluated
edited overlap.safetensors '"data_offsets": \[0,' '"data_offsets": [4,'
refuses 'data_offsets must span|must begin at byte 0' eval overlap.safetensors eval.dir=evaluated
safetensors '{}' >none.safetensors
refuses 'none.safetensors: .*architecture' eval none.safetensors eval.dir=evaluated
refuses 'takes 9x6x2 images of 5 classes' eval "$golden/dense.safetensors" eval.eps=0.1 eval.dir=evaluated
refuses 'eval.dir=FOLDER' eval "$golden/dense.safetensors" eval.eps=0.1
refuses 'takes 8x8x1 images' eval run --data synthetic
refuses 'takes 8x8x1 images' attack run --data synthetic --out attacked
refuses '8/255' attack run --eps 8 --out attacked
refuses '--eps' attack run --eps -1 --out attacked
refuses '--steps' attack run --steps 0 --out attacked
refuses '--attack must be.*apgd-ce' attack run --attack apgd-c --out attacked
refuses '--queries is no setting of --attack pgd' attack run --queries 5 --out attacked
refuses '--loss is no setting of --attack square' attack run --attack square --loss margin --out attacked
refuses '--targets is no setting of --attack apgd-ce' attack run --attack apgd-ce --targets 3 --out attacked
refuses '--restarts must be at least 1, got 0' attack run --attack fab-t --restarts 0 --out attacked
refuses '--gate.*blocked' attack run --gate shut --out attacked
refuses 'protocol' eval run --protocol pgd-51@1
refuses 'aa-standard@1' eval run --protocol autoattack
refuses 'split' attack run --split tset --out attacked
must test ! -e attacked -a ! -e evaluated -a ! -e y

# Formats that this machine lacks, or is made to lack.
export DNNL_MAX_CPU_ISA=AVX2
refuses 'bf16 needs a CPU with AVX-512' train "${tiny[@]}" --precision bf16 run.dir=other
refuses 'bf16 needs a CPU with AVX-512' train "${tiny[@]}" run.precision=bf16 run.dir=other
refuses 'bf16 needs a CPU with AVX-512' attack run --precision bf16 --out attacked
unset DNNL_MAX_CPU_ISA
refuses 'tf32 needs an NVIDIA GPU' eval run --precision tf32 --device cpu
must test ! -e other -a ! -e attacked

# Tensors to predict on.
predict=(predict run --input x.safetensors --out y.safetensors)
refuses "x.safetensors" "${predict[@]}"
bytes ff ff ff ff ff ff ff 7f >x.safetensors
refuses 'must begin with the length of its header, at most [0-9]+, got [0-9]+: another kind of file, or a broken one$' "${predict[@]}"
safetensors '[[[[[[[[[[' >x.safetensors
refuses 'header' "${predict[@]}"
safetensors "{$image}" 255 >x.safetensors
refuses 'the file is cut off, or its header is wrong: tensor .*: ends at byte 256 of the data, which has 255' "${predict[@]}"
safetensors "{$image}" 257 >x.safetensors
refuses 'must cover all 257 bytes' "${predict[@]}"
safetensors "{$image,\"also\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[252,256]}}" 256 \
  >x.safetensors
refuses 'data must begin at byte' "${predict[@]}"
safetensors '{"images":{"dtype":"F32","shape":[4294967296,4294967296,8,8],"data_offsets":[0,256]}}' 256 \
  >x.safetensors
refuses 'must stay below 2\^63 bytes|must span' "${predict[@]}"
safetensors '{"images":{"dtype":"F32","shape":[1,1,4,16],"data_offsets":[0,256]}}' 256 >x.safetensors
refuses "'images' must be float32 \[n, 1, 8, 8\], got" "${predict[@]}"
safetensors '{"image":{"dtype":"F32","shape":[1,1,8,8],"data_offsets":[0,256]}}' 256 >x.safetensors
refuses "'images' must be float32 \[n, 1, 8, 8\], got none" "${predict[@]}"
safetensors '{"images":{"dtype":"F64","shape":[1,1,8,8],"data_offsets":[0,512]}}' 512 >x.safetensors
refuses "'images' must be float32 \[n, 1, 8, 8\], got float64" "${predict[@]}"
safetensors '{"images":{"dtype":"F32","shape":[0,1,8,8],"data_offsets":[0,0]}}' >x.safetensors
refuses 'at least one image' "${predict[@]}"
{ safetensors "{$image}" 252 && bytes 00 00 c0 7f; } >x.safetensors
refuses 'pixels must lie in \[0, 1\]' "${predict[@]}"
{ safetensors "{$image}" 252 && bytes 00 00 00 40; } >x.safetensors
refuses 'pixels must lie in \[0, 1\]' "${predict[@]}"
safetensors "{$image}" 256 >x.safetensors
refuses "needs 'labels'" "${predict[@]}" --gradients
{ safetensors "{$image,$label}" 256 && bytes 0a 00 00 00 00 00 00 00; } >x.safetensors
refuses 'labels must be from 0 to 9' "${predict[@]}" --gradients
{ safetensors "{$image,$label}" 256 && bytes ff ff ff ff ff ff ff ff; } >x.safetensors
refuses 'labels must be from 0 to 9' "${predict[@]}" --gradients
refuses '--batch must be at least 1' "${predict[@]}" --batch 0
must test ! -e y.safetensors
refuses 'cannot write|must be a folder that exists' \
  predict run --input x.safetensors --out absent/y.safetensors
echo mine >y.safetensors
refuses 'never overwritten' "${predict[@]}"
must test "$(<y.safetensors)" = mine

# Other projects' files.
import=(import theirs.safetensors --as digits-resnet --out imported.safetensors)
tensor() { printf '"%s":{"dtype":"%s","shape":%s,"data_offsets":[0,%d]}' "$@"; }
safetensors '{}' >theirs.safetensors
refuses "misses bn1.bias, .* and [0-9]+ more; is it this model" "${import[@]}"
safetensors "{$(tensor "$(printf 'model.%.0s' {1..999})" F16 '[2]' 4)}" 4 >theirs.safetensors
refuses "misses bn1.bias, " "${import[@]}"
safetensors "{$(tensor "a\\n$(printf 'b%.0s' {1..9999})" F32 '[1]' 4)}" 4 >theirs.safetensors
refuses "1 left over: a bbb" "${import[@]}"
must test "$(wc -c <err)" -lt 600
safetensors "{$(tensor cls F32 '[1]' 4),\"module/cls\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]}}" 4 \
  >theirs.safetensors
refuses "'module/cls' and 'cls' are both the tensor|'cls' and 'module/cls' are both" \
  import theirs.safetensors --as digits-vit --out imported.safetensors
safetensors "{$(tensor router.gate.weight F32 '[4,2,5]' 160)}" 160 >theirs.safetensors
refuses "'router.gate.weight' must have 2 axes, got \[4, 2, 5\]" \
  import theirs.safetensors --as digits-networks-resnet --map rt-er --out imported.safetensors
"$moat" export --model digits-resnet --out whole.safetensors >out 2>err
sed 's/fc.bias":{"dtype":"F32/fc.bias":{"dtype":"I32/' whole.safetensors >theirs.safetensors
refuses "'fc.bias' must be float32 \[10\], got int32 \[10\]" "${import[@]}"
safetensors "{$(tensor "$(printf 'a%.0s' {1..587})" F32 '[1]' 4)}" 4 >theirs.safetensors
must test "$(head -c 2 theirs.safetensors | od -An -tx1)" = ' 80 02'
refuses '1 left over: aaa' "${import[@]}"
bytes 80 02 7d 71 00 >theirs.safetensors
refuses 'is a pickle' "${import[@]}"
must test ! -e imported.safetensors

# Data sets.
imagefolder() { refuses "$1" data info imagefolder --root folder; }
cifar() { refuses "$1" data info cifar10 --root cifar; }
mkdir -p cifar/cifar-10-batches-bin folder/train
cifar '"cifar" must hold the published binary files'
zeros 0 >cifar/cifar-10-batches-bin/test_batch.bin
cifar 'data_batch_1.bin'
zeros 30729999 >cifar/cifar-10-batches-bin/data_batch_1.bin
cifar 'data_batch_1.bin: must have 30730000 bytes, it has 30729999'
zeros 30730000 | tr '\0' '\12' >cifar/cifar-10-batches-bin/data_batch_1.bin
cifar 'label 10 of record 0 is outside the 10 classes'
rm -rf cifar
imagefolder '"folder/train" must hold a folder of images per class'
mkdir folder/train/cat
imagefolder '"folder/train/cat" holds no .jpg, .jpeg or .png file'
cp "$golden/make_golden.py" folder/train/cat/1.jpg
imagefolder 'cat/1.jpg'
bytes ff d8 ff c0 00 0b 08 ea 60 ea 60 01 01 11 00 ff da 00 08 01 01 00 00 3f 00 >folder/train/cat/1.jpg
imagefolder 'cat/1.jpg: .*claims 60000x60000'
{ bytes 89 50 4e 47 0d 0a 1a 0a 00 00 00 0d && printf IHDR && zeros 5; } >folder/train/cat/1.jpg
imagefolder 'cat/1.jpg'
"$moat" attack run --steps 1 --limit 1 --out one >out 2>err &&
  cp one/gallery.png folder/train/cat/2.png
refuses 'cat/1.jpg' train "${tiny[@]}" data.name=imagefolder data.path=folder run.dir=other
must test ! -e other

rm folder/train/cat/1.jpg
imagefolder 'validation.*empty|empty.*validation'

# Told to end while it writes, it leaves nothing.
mkdir -p folder/val folder/test
cp -r folder/train/cat folder/val && cp -r folder/train/cat folder/test
for i in {1..20}; do ln folder/train/cat/2.png "folder/train/cat/more-$i.png"; done
command='moat data convert imagefolder, ended'
"$moat" data convert imagefolder --root folder --resize 4000 --out cut.moatset --quiet >out 2>err &
until compgen -G 'cut.moatset*' >files || [[ -z $(jobs -r) ]]; do sleep 0.01; done
kill -TERM $!
wait $!
check 'interrupted; nothing was written' $?
must test -z "$(compgen -G 'cut.moatset*')"

# Converted sets.
"$moat" data convert digits --out digits.moatset --quiet >out 2>err || { cat err && exit 1; }
"$moat" train "${tiny[@]}" data.name=converted data.path=digits.moatset train.epochs=1 \
  run.dir=converted >out 2>err || cat err
must cmp <(tail -c 5000 "$model") <(tail -c 5000 converted/checkpoints/last.safetensors)
converted() { refuses "$1" data info converted --root digits.moatset; }
cp digits.moatset whole
printf '\3\1\2' | dd of=digits.moatset bs=1 seek=9000 conv=notrunc status=none
converted 'digits.moatset: the content does not have the checksum that was written'
head -c 20000 whole >digits.moatset
converted 'digits.moatset: must have the .* bytes that its header calls for, it has 20000'
zeros 5000 >digits.moatset
converted 'digits.moatset: must be a file that moat data convert wrote'
refuses 'digits.moatset' train "${tiny[@]}" data.name=converted data.path=digits.moatset run.dir=other
must test ! -e other

# Reports.
mkdir -p damaged/eval/pgd-50@1
refuses 'absent' report absent
refuses 'run folder|config.json' report damaged
cp run/config.json damaged
printf '{"schema": 1' >damaged/eval/pgd-50@1/report.json
refuses 'report.json' report damaged --out damaged.html
printf '{"schema": 2}' >damaged/eval/pgd-50@1/report.json
refuses 'report.json' report damaged --out damaged.html
head -c 100 run/config.json >damaged/config.json
refuses 'config.json' report damaged --out damaged.html
must test ! -e damaged.html
refuses 'absent/page.html' report run --out absent/page.html

# A damaged run is not resumed over.
cp -r run torn
sed -i 's/"epochs": 1,/"epochs": 2,/' torn/config.json
zeros 100 >torn/checkpoints/last.state.safetensors
before=$(tree torn)
refuses 'last.state.safetensors' train "${tiny[@]}" train.epochs=2 run.dir=torn --resume auto
must test "$(tree torn)" = "$before"

# A full disk: whatever was there stays, and the run goes on once there is room.
rm y.safetensors
full() {
  local regex=$1 blocks=$2
  shift 2
  command="moat $* on a full disk"
  local said code
  said=$(trap '' XFSZ && ulimit -f "$blocks" && exec "$moat" "$@" 2>&1 >out </dev/null)
  code=$?
  printf '%s\n' "$said" >err
  check "$regex" $code
}
full 'cannot write .*y.safetensors.*too large' 0 "${predict[@]}"
must test ! -e y.safetensors
full 'cannot write' 0 train "${tiny[@]}" train.epochs=1 run.dir=full
full 'cannot write .*too large' 64 train "${tiny[@]}" train.epochs=1 run.dir=fuller
must test -z "$(find . -name '*partial*')"
"$moat" train "${tiny[@]}" train.epochs=1 run.dir=fuller --resume auto >out 2>err
must cmp "$model" fuller/checkpoints/last.safetensors
# A disk that fills up in the second epoch, or has no room for a line of the log.
cp -r run half
sed -i 's/"epochs": 1,/"epochs": 2,/' half/config.json
before=$(tree half/checkpoints)
full 'cannot write .*too large' 64 train "${tiny[@]}" train.epochs=2 run.dir=half --resume auto
must test "$(tree half/checkpoints)" = "$before"
full 'half/(events.jsonl|metrics.csv).*too large' 0 train "${tiny[@]}" train.epochs=2 run.dir=half --resume auto
must test "$(tree half/checkpoints)" = "$before"
"$moat" train "${tiny[@]}" train.epochs=2 run.dir=half --resume auto >out 2>err
"$moat" train "${tiny[@]}" train.epochs=2 run.dir=undisturbed >out 2>err
for file in last last.state best; do
  must cmp "half/checkpoints/$file.safetensors" "undisturbed/checkpoints/$file.safetensors"
done
full 'cannot write .*full.moatset.*too large' 16 data convert digits --out full.moatset --quiet
must test ! -e full.moatset
full 'cannot write' 0 eval run eval.limit=4 eval.dir=evaluated --threads 1 --quiet
must test ! -e evaluated/report.json
if [[ -w /dev/full ]]; then
  command='moat info --json >/dev/full'
  "$moat" info --json >/dev/full 2>err </dev/null
  code=$?
  : >out
  check 'standard output must be writable' $code
fi

printf 'bad files: %s checks, %s failed\n' "$count" "$failures"
((failures == 0))
