#!/bin/sh
# pytorch_agrees.sh MOAT SCRATCH: checkpoints of the program, loaded in PyTorch, give the same logits,
# routes and input gradients; and what it exports with another project's names, it imports. Exit 77 (skipped) without PyTorch; MOAT_PYTHON names another python3.
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
  "$python" "$here/../examples/pytorch/load_moat.py" "$name" \
    --input "$name-images/adversarial.safetensors" --compare "$name.safetensors"
}

agrees digits 0 --preset digits-at train.epochs=3 train.steps=2 model.normalize=data
agrees digits-moe 0 --preset digits-advmoe train.epochs=3 train.steps=2 model.normalize=data
agrees digits-moe-raw 0 --preset digits-advmoe train.epochs=3 train.steps=2 \
  model.gate=straight-through
agrees digits-sparse 0 --preset digits-at train.epochs=3 train.steps=2 model.kept=0.5
for model in resnet20 resnet18 moe-resnet18 moe-resnet18-released; do
  agrees "$model" 64 --preset digits-at data.name=synthetic data.limit=16 "model.name=$model" \
    train.epochs=1 train.steps=1 train.batch=16
done

# fresh MODEL NAMES SIDE OPTION SETTING…: a fresh model of the zoo on a few random images. Large nets have
# a ReLU input near zero in every image, so OPTION is --gradients for the small ones and --quiet for others.
# Exported with the NAMES of a project and imported by them it predicts the same bytes.
fresh() {
  name=$1
  names=$2
  side=$3
  option=$4
  shift 4
  echo "-- $name $*"
  rm -rf fresh
  mkdir fresh
  "$moat" export --model "$name" "$@" --seed 5 --out fresh/model.safetensors
  PYTHONPATH=$here/../examples/pytorch "$python" - "$side" <<'END'
import sys
import torch
from moat_models import write_safetensors
torch.manual_seed(3)
side, channels = (int(n) for n in sys.argv[1].split("x"))
write_safetensors("fresh/images.safetensors", {"labels": torch.arange(6), "images": torch.rand(6, channels, side, side)}, {})
END
  "$moat" predict fresh/model.safetensors --input fresh/images.safetensors --out fresh/ours.safetensors "$option"
  "$python" "$here/../examples/pytorch/load_moat.py" fresh/model.safetensors \
    --input fresh/images.safetensors --compare fresh/ours.safetensors
  "$moat" export fresh/model.safetensors --names "$names" --out fresh/theirs.safetensors
  "$moat" import fresh/theirs.safetensors --as "$name" "$@" --out fresh/back.safetensors
  "$moat" predict fresh/back.safetensors --input fresh/images.safetensors --out fresh/again.safetensors "$option"
  cmp fresh/ours.safetensors fresh/again.safetensors
}

fresh digits-networks-resnet rt-er 8x1 --gradients
fresh digits-vit timm 8x1 --gradients
fresh digits-v-moe v-moe 8x1 --gradients
fresh digits-resnet robustbench 8x1 --gradients
fresh vit-tiny-patch4-32 timm 32x3 --gradients
fresh v-moe-tiny-patch4-32 v-moe 32x3 --gradients
fresh vgg16 torchvision 32x3 --quiet
fresh moe-vgg16 moat 32x3 --quiet
fresh vgg16-imagenet torchvision 224x3 --quiet model.ratio=0.05
fresh densenet40 torchvision 32x3 --quiet
fresh moe-densenet40 moat 32x3 --quiet
fresh resnet50 robustbench 32x3 --quiet
fresh networks-resnet18 rt-er 32x3 --quiet
fresh wrn-28-10 robustbench 32x3 --quiet
fresh wrn-34-10 robustbench 32x3 --quiet model.ratio=0.2
fresh preact-resnet18 robustbench 32x3 --quiet
fresh preact-resnet18-raw-shortcut robustbench 32x3 --quiet
fresh preact-resnet18-wong2020 robustbench 32x3 --quiet
fresh moe-preact-resnet18 moat 32x3 --quiet
fresh moe-wrn-28-10-released moat 32x3 --quiet
