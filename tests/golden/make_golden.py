"""Writes the golden files next to it: small random networks, and what PyTorch computes with them.

    python tests/golden/make_golden.py

NAME.safetensors is a checkpoint as moat writes it; NAME.expected.safetensors holds images, labels,
logits, routes, the experts of each token (tokens.0, …), the gradient of the summed cross-entropy with
respect to the images (through the gate, and with the gate blocked), which images have no kink within
rounding, and what one pass in training mode gives: train.logits and the running statistics that it
leaves (train.NAME).
"""

import json
import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "examples" / "pytorch"))
from moat_models import make, names_in_file, smooth_images, write_safetensors  # noqa: E402
from moat_models.classifier import Router  # noqa: E402
from moat_models.token_moe import TokenMoe  # noqa: E402

IMAGES, CLASSES = 9, 5
TOO_LARGE = 16384  # numbers of a tensor: beyond, it is a formula in place of bytes in the repository

DENSE = {"family": "resnet", "name": "golden", "blocks": [1, 1], "widths": [6, 8], "stem_width": 6,
         "scaled_stem": True, "in_channels": 2, "classes": CLASSES, "shortcut": "projection",
         "experts": 1, "ratio": 1, "image": [9, 6]}
ROUTER = {"blocks": [1, 1], "widths": [3, 4], "score_norm": True}
LINEAR = {"blocks": [], "widths": [], "score_norm": False, "trained": False}
MIXTURE = {"experts": 3, "gate": "softmax", "router": ROUTER}
ROUTED = {**DENSE, **MIXTURE, "ratio": 0.5}
LARGE = {"image": [13, 10], "in_channels": 1, "stem": "imagenet"}
BOTTLENECK = {"block": "bottleneck", "widths": [4, 5], "blocks": [1, 1]}
WIDE = {"family": "wide-resnet"}
PREACT = {"family": "preact-resnet", "transition": "raw-shortcut", "head_norm": "none"}
VGG = {"family": "vgg", "widths": [6, 6], "blocks": [1, 2], "image": [8, 8], "in_channels": 1}
GROWN = {"family": "densenet", "blocks": [2, 2], "widths": [4, 4], "stem_width": 6}
NETWORKS = {**MIXTURE, "experts_are": "networks", "blocks": [1, 1], "widths": [4, 6]}
VIT = {**DENSE, "family": "vit", "blocks": [2], "widths": [12], "image": [9, 6],
       "transformer": {"patch": 3, "heads": 2, "activation": "gelu"}}
TOKENS = {"blocks": [1], "experts": 3, "active": 2, "capacity": 0, "group": 0, "priority": "order",
          "noise": 1, "importance": 0.005, "load": 0.005, "balance": 0}


def v_moe(**changed):
    moe = {**TOKENS, **changed}
    return {**VIT, "transformer": {"patch": 3, "heads": 2, "activation": "gelu-tanh", "moe": moe}}


def dual(standard, robust, alpha, average):
    return {"family": "dual", "name": "golden", "alpha": alpha, "average": average, "standard": standard,
            "robust": robust}


GOLDEN = {
    "dense": {**DENSE, "blocks": [1, 2]},
    "dense-pad": {**DENSE, "shortcut": "pad", "blocks": [2, 1, 1], "widths": [6, 7, 10]},
    "moe-softmax": ROUTED,
    "moe-straight-through": {**ROUTED, "gate": "straight-through", "shortcut": "pad", "stem_width": 4,
                             "widths": [9, 14], "scaled_stem": False,
                             "router": {**ROUTER, "score_norm": False}},
    "moe-pooled-router": {**ROUTED, "router": {**ROUTER, "pool": 2}},
    "moe-weighted": {**ROUTED, "active": 2},
    "sparse": {**DENSE, "kept": 0.5},
    "bottleneck": {**DENSE, **BOTTLENECK},
    "moe-bottleneck": {**ROUTED, **BOTTLENECK, **LARGE},
    "wide": {**DENSE, **WIDE},
    "moe-wide": {**ROUTED, **WIDE, **LARGE},
    "moe-wide-raw": {**ROUTED, **WIDE, "transition": "raw"},
    "preact": {**DENSE, **PREACT, "blocks": [1, 2]},
    "vgg": {**DENSE, **VGG},
    "moe-vgg": {**ROUTED, **VGG},
    "densenet": {**DENSE, **GROWN},
    "moe-densenet": {**ROUTED, **GROWN, **LARGE},
    "vit": VIT,
    "v-moe": v_moe(),
    "v-moe-capacity": v_moe(capacity=0.7, group=5),
    "v-moe-best-gate": v_moe(capacity=0.9, active=1, priority="best-gate"),
    "networks": {**DENSE, **NETWORKS, "router": LINEAR},
    "networks-weighted": {**DENSE, **NETWORKS, "active": 2},
    "dual": dual(DENSE, ROUTED, 0.3, "logits"),
    "dual-probabilities": dual(ROUTED, {**DENSE, **NETWORKS, "router": LINEAR}, 0.6,
                               "probabilities"),
}


def by_formula(size):
    """Number i of a tensor that is too large for the repository."""
    i = torch.arange(size, dtype=torch.float64)
    return (0.1 * torch.sin(i * i)).float()


def randomised(network):
    """Nothing keeps its neutral value, so that nothing can be forgotten."""
    for name, tensor in list(network.named_parameters()) + list(network.named_buffers()):
        last = name.rsplit(".", 1)[-1]
        with torch.no_grad():
            if tensor.numel() > TOO_LARGE:
                tensor.copy_(by_formula(tensor.numel()).view_as(tensor))
            elif name.endswith("normalize.mean"):
                tensor.uniform_(0.3, 0.6)
            elif name.endswith("normalize.std"):
                tensor.uniform_(0.2, 0.4)
            elif last == "running_mean":
                tensor.uniform_(-0.2, 0.2)
            elif last in ("bias", "scores"):
                tensor.uniform_(-0.3, 0.3)
            elif last in ("cls_token", "pos_embed"):
                tensor.normal_(0, 0.5)
            elif tensor.dim() == 1:  # scale of a norm, running variance
                tensor.uniform_(0.5, 1.5)
            elif tensor.dim() > 1:  # the experts of a V-MoE block lie along the first axis
                inputs = tensor[0].numel() if tensor.dim() != 3 else tensor.shape[2]
                tensor.normal_(0, (2 / inputs) ** 0.5)
    return network.eval()


def balance(network, images):
    """Every expert gets some of the images: the scores of each have the mean 0 after their norm."""
    for router in (module for module in network.modules() if isinstance(module, Router)):
        seen = []
        hook = router.register_forward_hook(lambda module, inputs, scores: seen.append(scores.detach()))
        with torch.no_grad():
            network(images)
            hook.remove()
            norm = getattr(router, "score_norm", None)
            scale = (norm.running_var + norm.eps).sqrt() if norm else 1
            getattr(router.net, "fc", router.net).bias -= (seen[0] * scale).mean(0)


def input_gradient(network, images, labels):
    images = images.clone().requires_grad_(True)
    logits, _ = network(images)
    return torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), images)[0]


def make_golden(name, spec):
    torch.manual_seed(zlib.crc32(name.encode()))
    network = randomised(make(spec))
    one = spec.get("standard", spec)
    labels = torch.arange(IMAGES) % CLASSES
    channels = one["in_channels"]
    images = torch.rand(IMAGES, channels, *one["image"]) * torch.rand(IMAGES, channels, 1, 1)
    balance(network, images)
    with torch.no_grad():
        logits, route = network(images)
    expected = {"labels": labels, "images": images, "logits": logits,
                "smooth": smooth_images(network, images).to(torch.uint8)}
    mixtures = [module for module in network.modules() if isinstance(module, TokenMoe)]
    expected.update({f"tokens.{i}": mixture.chosen.int() for i, mixture in enumerate(mixtures)})
    expected["gradient"] = input_gradient(network, images, labels)
    if route is not None or mixtures:
        if route is not None:
            expected["routes"] = route.int()
        routers = [module for name, module in network.named_modules() if name.split(".")[-1] == "router"]
        hooks = [r.register_forward_hook(lambda module, inputs, scores: scores.detach()) for r in routers]
        expected["gradient_blocked"] = input_gradient(network, images, labels)
        for hook in hooks:
            hook.remove()
    names = names_in_file(network)
    weights = {name: network.state_dict()[key] for name, key in names.items()}
    formulas = [name for name, tensor in weights.items() if tensor.numel() > TOO_LARGE]
    metadata = {"architecture": json.dumps(spec)}
    metadata.update({f"formula:{name}": json.dumps(list(weights.pop(name).shape)) for name in formulas})
    write_safetensors(HERE / f"{name}.safetensors", weights, metadata)
    network.train()
    with torch.no_grad():
        expected["train.logits"] = network(images)[0]
    state = network.state_dict()
    expected.update({f"train.{name}": state[key] for name, key in names.items()
                     if name.endswith(("running_mean", "running_var"))})
    write_safetensors(HERE / f"{name}.expected.safetensors", expected,
                      {"made_by": f"PyTorch {torch.__version__}"})
    counts = torch.bincount(route).tolist() if route is not None else "none"
    tokens = [torch.bincount(mixture.chosen.flatten() + 1).tolist() for mixture in mixtures]
    print(f"{name}: routes {counts}, token experts {tokens}, {int(expected['smooth'].sum())} smooth images, "
          f"logits up to {logits.abs().max():.2g}, gradient up to {expected['gradient'].abs().max():.2g}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, spec in GOLDEN.items():
        make_golden(name, spec)
