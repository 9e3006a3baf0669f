"""A checkpoint of moat, or a run's last, in plain PyTorch, compared with what moat computes with it.

    moat predict CHECKPOINT --input images.safetensors --out ours.safetensors --gradients
    python load_moat.py CHECKPOINT --input images.safetensors --compare ours.safetensors

prints how far PyTorch's logits, routes and input gradients are from moat's, and exits with 1 when they
are further than --tolerance times the largest logit or gradient. Gradients are compared on the images
that have no kink within rounding (moat_models/kinks.py).
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from moat_models import load, read_safetensors, smooth_images


def compare(what, ours, theirs, tolerance):
    size, difference = (x.abs().max().item() if x.numel() else 0.0 for x in (ours, ours - theirs))
    print(f"{what}: largest difference {difference:.2e}, largest value {size:.2e}")
    return difference <= tolerance * size  # False for a difference that is not a number


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoint", help="of moat, or a run folder")
    parser.add_argument("--input", required=True, help="safetensors with `images` and `labels`")
    parser.add_argument("--compare", required=True, help="what `moat predict` wrote for them")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()

    run = Path(args.checkpoint)  # of a run folder its last checkpoint
    network = load(run / "checkpoints" / "last.safetensors" if run.is_dir() else run)
    inputs, _ = read_safetensors(args.input)
    theirs, _ = read_safetensors(args.compare)
    images = inputs["images"].requires_grad_(True)
    logits, route = network(images)
    agreed = True

    same = torch.ones(len(images), dtype=torch.bool)
    if route is not None:
        same = route == theirs["routes"].flatten()
        print(f"routes: {int(same.sum())} of {len(same)} agree")
        agreed = bool(same.all())
    agreed &= compare("logits", logits, theirs["logits"], args.tolerance)
    if "gradient" in theirs:
        loss = F.cross_entropy(logits, inputs["labels"], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
        smooth = torch.cat([smooth_images(network, some) for some in images.detach().split(16)])
        smooth &= same
        print(f"smooth: {int(smooth.sum())} of {len(images)} images have no kink within rounding")
        agreed &= bool(smooth.any())
        agreed &= compare("gradients", gradient[smooth], theirs["gradient"][smooth], args.tolerance)
    print("agree" if agreed else f"no agreement within {args.tolerance:g}")
    sys.exit(0 if agreed else 1)


if __name__ == "__main__":
    main()
