#!/bin/sh
# pytorch_agrees.sh MOAT SCRATCH: checkpoints of the program, loaded in PyTorch, give the same logits,
# routes and input gradients. Exit 77 (skipped) without PyTorch; MOAT_PYTHON names another python3.
set -eu
moat=$1
scratch=$2
python=${MOAT_PYTHON:-python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
  echo "skipped: '$python' has no PyTorch; set MOAT_PYTHON to a python3 that has"
  exit 77
fi
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$scratch"
mkdir -p "$scratch"
cd "$scratch"

# agrees NAME LIMIT SETTING…: trains, takes LIMIT images, compares on them.
agrees() {
  name=$1
  limit=$2
  shift 2
  echo "-- $name"
  "$moat" train "$@" eval.validation_steps=1 "run.dir=$name" --quiet
  "$moat" attack "$name" --steps 1 --limit "$limit" --out "$name-images" --quiet >attack.txt
  "$moat" predict "$name" --input "$name-images/adversarial.safetensors" \
    --out "$name.safetensors" --gradients
  "$python" "$here/../examples/pytorch/load_moat.py" "$name/checkpoints/last.safetensors" \
    --input "$name-images/adversarial.safetensors" --compare "$name.safetensors"
}

agrees digits 0 --preset digits-at train.epochs=3 train.steps=2 model.normalize=data
agrees digits-moe 0 --preset digits-advmoe train.epochs=3 train.steps=2 model.normalize=data
agrees digits-moe-raw 0 --preset digits-advmoe train.epochs=3 train.steps=2 \
  model.gate=straight-through
for model in resnet20 resnet18 moe-resnet18 moe-resnet18-released; do
  agrees "$model" 64 --preset digits-at data.name=synthetic data.limit=16 "model.name=$model" \
    train.epochs=1 train.steps=1 train.batch=16
done
