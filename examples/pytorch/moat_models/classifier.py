"""From pixels in [0, 1] to logits: what a checkpoint's metadata describes."""

import json

import torch
import torch.nn.functional as F
from torch import nn

from .densenet import DenseNet
from .layers import LayerMaker, Route
from .resnet import ResNet
from .safetensors_file import read_safetensors
from .vgg import Vgg
from .vit import VisionTransformer
from .wide_resnet import WideResNet

LARGE_IMAGE = 64  # pixels a side


def make_net(spec, experts):
    """One network by the widths it really has; `experts` filters in its convolutions."""
    ratio, make = spec["ratio"], LayerMaker(experts, spec.get("kept", 1))
    blocks, widths = spec["blocks"], [int(ratio * width) for width in spec["widths"]]
    stem_width = int(ratio * spec["stem_width"]) if spec["scaled_stem"] else spec["stem_width"]
    form, family = spec.get("stem", "cifar"), spec["family"]
    shape = (blocks, widths, stem_width, spec["in_channels"], spec["classes"], make)
    if family == "resnet":
        return ResNet(*shape, spec.get("block", "basic"), form, spec["shortcut"])
    if family in ("wide-resnet", "preact-resnet"):
        return WideResNet(*shape, form, spec.get("transition", "activated"), spec.get("head_norm", "batch"))
    if family == "vgg":
        return Vgg(*shape, spec.get("vgg_head", "cifar"))
    if family == "densenet":
        return DenseNet(*shape, form)
    return VisionTransformer(blocks[0], widths[0], spec["image"], spec["in_channels"], spec["classes"],
                             spec["transformer"])


class NetworkBank(nn.Module):
    """Experts that are whole networks. In training each sees its own images, and so do its norms."""

    def __init__(self, spec):
        super().__init__()
        self.experts = nn.ModuleList(make_net(spec, 1) for _ in range(spec["experts"]))
        self.classes = spec["classes"]

    def forward(self, x, route):
        if self.training:
            y = torch.zeros(len(x), self.classes)
            for e, net in enumerate(self.experts):
                mine = (route.expert == e).nonzero()[:, 0]
                if len(mine) > 0:
                    y = y.index_copy(0, mine, net(x[mine]))
        else:
            y = torch.stack([net(x) for net in self.experts], 1)[torch.arange(len(x)), route.expert]
        return y if route.gate is None else y * route.gate[:, None]


class LinearRouter(nn.Module):
    """One linear map of the pixels: weight [experts, channels, height, width]."""

    def __init__(self, experts, channels, image):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, channels, *image))
        self.bias = nn.Parameter(torch.empty(experts))

    def forward(self, x):
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)


class Router(nn.Module):
    """A score per expert: a residual net that sees means of pool x pool pixels, or a linear map."""

    def __init__(self, spec):
        super().__init__()
        router, experts, channels = spec["router"], spec["experts"], spec["in_channels"]
        self.pool = router.get("pool", 0)
        if not router["blocks"]:
            self.net = LinearRouter(experts, channels, spec["image"])
            self.pool = 1
        else:
            widths = router["widths"]
            self.net = ResNet(router["blocks"], widths, widths[0], channels, experts, LayerMaker(),
                              shortcut="pad")
        if self.pool == 0 and min(spec["image"]) >= LARGE_IMAGE:
            raise SystemExit("the router's pool was left to moat: `moat export` writes what it chose")
        if router["score_norm"]:
            self.score_norm = nn.BatchNorm1d(experts, affine=False)

    def forward(self, x):
        scores = self.net(F.avg_pool2d(x, self.pool) if self.pool > 1 else x)
        return self.score_norm(scores) if hasattr(self, "score_norm") else scores


class Normalize(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, x):
        return (x - self.mean[:, None, None]) / self.std[:, None, None]


class Classifier(nn.Module):
    """Images [n, channels, height, width] -> logits, and an expert per image (None without a router)."""

    def __init__(self, spec):
        super().__init__()
        self.normalize, self.experts = Normalize(spec["in_channels"]), spec["experts"]
        self.active, self.gate = spec.get("active", 1), spec.get("gate")
        whole = spec.get("experts_are") == "networks"
        self.net = NetworkBank(spec) if whole and self.experts > 1 else make_net(spec, self.experts)
        if self.experts > 1:
            self.router = Router(spec)

    def forward(self, images):
        x = self.normalize(images)
        if self.experts == 1:
            return self.net(x), None
        scores = self.router(x)
        if self.active == 1:
            route = Route.hard(scores, self.gate)
            return self.net(x, route), route.expert
        weight, expert = scores.softmax(1).topk(self.active)
        weight = weight / weight.sum(1, keepdim=True)
        y = self.net(x.repeat_interleave(self.active, 0), Route(expert.flatten()))
        return (y.view(len(x), self.active, -1) * weight[:, :, None]).sum(1), scores.argmax(1)


class Dual(nn.Module):
    """Two classifiers and the average of their logits, or of their probabilities."""

    def __init__(self, spec):
        super().__init__()
        self.standard, self.robust = Classifier(spec["standard"]), Classifier(spec["robust"])
        self.alpha, self.average = spec["alpha"], spec["average"]

    def forward(self, images):
        (p, route), (q, other) = self.standard(images), self.robust(images)
        if route is not None and other is not None:
            route = route * self.robust.experts + other
        elif route is None:
            route = other
        if self.average == "logits":
            return (1 - self.alpha) * p + self.alpha * q, route
        return ((1 - self.alpha) * p.softmax(1) + self.alpha * q.softmax(1)).log(), route


def make(spec):
    return Dual(spec) if spec["family"] == "dual" else Classifier(spec)


def names_in_file(network):
    """What a file calls a tensor -> what state_dict() does: files leave out the `net` of a classifier."""
    return {".".join(part for part in key.split(".") if part != "net"): key
            for key in network.state_dict() if not key.endswith("num_batches_tracked")}


def load(path):
    """The model of a checkpoint, in evaluation mode; exits with a line when the file is not one."""
    tensors, metadata = read_safetensors(path)
    if "architecture" not in metadata:
        raise SystemExit(f"{path}: no architecture in the metadata: not a checkpoint of moat")
    network = make(json.loads(metadata["architecture"]))
    names = names_in_file(network)
    missing, unexpected = sorted(set(names) - set(tensors)), sorted(set(tensors) - set(names))
    if missing or unexpected:
        raise SystemExit(f"{path}: missing tensors {missing}, unexpected tensors {unexpected}")
    network.load_state_dict({names[name]: tensor for name, tensor in tensors.items()}, strict=False)
    return network.eval()
