"""A checkpoint of moat in plain PyTorch: own module definitions, own safetensors reader.

    moat predict CHECKPOINT --input images.safetensors --out ours.safetensors --gradients
    python load_moat.py CHECKPOINT --input images.safetensors --compare ours.safetensors

prints how far PyTorch's logits, routes and input gradients are from moat's, and exits with 1 when they
are further than --tolerance times the largest logit or gradient. Float32 networks have kinks: a ReLU
input within rounding of zero may fall on either side of it in two correct programs, so gradients are
compared on the images that have none. How much rounding there is is measured, against the same network
in float64.
"""

import argparse
import copy
import json
import struct
import sys

import torch
import torch.nn.functional as F
from torch import nn

DTYPES = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64, "I32": torch.int32,
          "U8": torch.uint8}


def read_safetensors(path):
    """-> (name -> tensor, metadata). Eight bytes of header length, a JSON header, then the tensors."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), bytearray(file.read())
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        dtype, (begin, end) = DTYPES[entry["dtype"]], entry["data_offsets"]
        values = torch.empty(0, dtype=dtype)
        if end > begin:
            size = torch.empty(0, dtype=dtype).element_size()
            values = torch.frombuffer(data, dtype=dtype, count=(end - begin) // size, offset=begin)
        tensors[name] = values.reshape(entry["shape"]).clone()
    return tensors, metadata


def conv(c_in, c_out, size=3, stride=1):
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False)


class MoeConv(nn.Module):
    """Expert e owns rows [e * width, (e + 1) * width) of the weight; each image meets its own."""

    def __init__(self, c_in, width, stride, experts):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts * width, c_in, 3, 3))
        self.width, self.stride, self.experts = width, stride, experts

    def forward(self, x, route):
        y = F.conv2d(x, self.weight, stride=self.stride, padding=1)
        y = y.unflatten(1, (self.experts, self.width))[torch.arange(len(x)), route.expert]
        return y * route.gate[:, None, None, None]


class Route:
    """What the router decided: an expert per image, and a gate of value 1 that carries its gradient."""

    def __init__(self, scores, gate):
        self.expert = scores.argmax(1)
        passed = scores.softmax(1) if gate == "softmax" else scores
        passed = passed.gather(1, self.expert[:, None])[:, 0]
        self.gate = 1 + passed - passed.detach()


class Relu(nn.Module):
    """Remembers what it was given, for smooth_images()."""

    def forward(self, x):
        self.input = x.detach()
        return x.relu()


class Block(nn.Module):
    def __init__(self, c_in, width, stride, shortcut, experts):
        super().__init__()
        routed = experts > 1
        self.conv1 = MoeConv(c_in, width, stride, experts) if routed else conv(c_in, width, 3, stride)
        self.conv2 = MoeConv(width, width, 1, experts) if routed else conv(width, width)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.relu1, self.relu2 = Relu(), Relu()
        self.changes_shape = stride != 1 or c_in != width
        self.stride, self.padding = stride, width - c_in
        if self.changes_shape and shortcut == "projection":
            self.downsample = nn.Sequential(conv(c_in, width, 1, stride), nn.BatchNorm2d(width))

    def around(self, x):
        if not self.changes_shape:
            return x
        if hasattr(self, "downsample"):
            return self.downsample(x)
        front = self.padding // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, front, self.padding - front))

    def forward(self, x, route):
        call = (lambda layer, y: layer(y, route)) if route else (lambda layer, y: layer(y))
        y = self.relu1(self.bn1(call(self.conv1, x)))
        return self.relu2(self.bn2(call(self.conv2, y)) + self.around(x))


class ResNet(nn.Module):
    def __init__(self, blocks, widths, stem_width, in_channels, classes, shortcut, experts=1):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv(in_channels, stem_width), nn.BatchNorm2d(stem_width), Relu()
        self.stages, c_in = len(blocks), stem_width
        for stage, (count, width) in enumerate(zip(blocks, widths)):
            layers = nn.ModuleList()
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Block(c_in, width, stride, shortcut, experts))
                c_in = width
            self.add_module(f"layer{stage + 1}", layers)
        self.fc = nn.Linear(c_in, classes)

    def forward(self, x, route=None):
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            for block in getattr(self, f"layer{stage + 1}"):
                x = block(x, route)
        return self.fc(x.mean((2, 3)))


class Normalize(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, x):
        return (x - self.mean[:, None, None]) / self.std[:, None, None]


class Network(ResNet):
    """The architecture that a checkpoint's metadata describes, dense or routed; pixels in [0, 1]."""

    def __init__(self, spec):
        experts, ratio = spec["experts"], spec["ratio"]
        widths = [int(ratio * width) for width in spec["widths"]]
        stem_width = int(ratio * spec["stem_width"]) if spec["scaled_stem"] else spec["stem_width"]
        super().__init__(spec["blocks"], widths, stem_width, spec["in_channels"], spec["classes"],
                         spec["shortcut"], experts)
        self.normalize = Normalize(spec["in_channels"])
        self.gate = spec.get("gate")
        if experts > 1:
            router = spec["router"]
            widths = router["widths"]
            self.router = ResNet(router["blocks"], widths, widths[0], spec["in_channels"], experts, "pad")
            if router["score_norm"]:
                self.router.score_norm = nn.BatchNorm1d(experts, affine=False)

    def forward(self, images):
        """-> logits, route (None for a dense network)."""
        x = self.normalize(images)
        if not hasattr(self, "router"):
            return super().forward(x), None
        scores = self.router(x)
        if hasattr(self.router, "score_norm"):
            scores = self.router.score_norm(scores)
        route = Route(scores, self.gate)
        return super().forward(x, route), route


def smooth_images(network, images):
    """Whether every ReLU input of an image is further from zero than twice the largest rounding error
    in its channel."""
    exact = copy.deepcopy(network).double()
    with torch.no_grad():
        network(images)
        exact(images.double())
    smooth = torch.ones(len(images), dtype=torch.bool)
    for ours, theirs in zip(network.modules(), exact.modules()):
        if isinstance(ours, Relu):
            rounding = (ours.input - theirs.input).abs().amax((2, 3), keepdim=True)
            smooth &= (theirs.input.abs() > 2 * rounding).flatten(1).all(1)
    return smooth


def compare(what, ours, theirs, tolerance):
    size, difference = (x.abs().max().item() if x.numel() else 0.0 for x in (ours, ours - theirs))
    print(f"{what}: largest difference {difference:.2e}, largest value {size:.2e}")
    return difference <= tolerance * size  # False for a difference that is not a number


def load(path):
    tensors, metadata = read_safetensors(path)
    if "architecture" not in metadata:
        sys.exit(f"{path}: no architecture in the metadata: not a checkpoint of moat")
    network = Network(json.loads(metadata["architecture"]))
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        sys.exit(f"{path}: missing tensors {missing}, unexpected tensors {unexpected}")
    return network.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--input", required=True, help="safetensors with `images` and `labels`")
    parser.add_argument("--compare", required=True, help="what `moat predict` wrote for them")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()

    network = load(args.checkpoint)
    inputs, _ = read_safetensors(args.input)
    theirs, _ = read_safetensors(args.compare)
    images = inputs["images"].requires_grad_(True)
    logits, route = network(images)
    agreed = True

    same = torch.ones(len(images), dtype=torch.bool)
    if route is not None:
        same = route.expert == theirs["routes"].flatten()
        print(f"routes: {int(same.sum())} of {len(same)} agree")
        agreed = bool(same.all())
    agreed &= compare("logits", logits, theirs["logits"], args.tolerance)
    if "gradient" in theirs:
        loss = F.cross_entropy(logits, inputs["labels"], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
        smooth = torch.cat([smooth_images(network, some) for some in images.detach().split(16)])
        smooth &= same
        print(f"smooth: {int(smooth.sum())} of {len(images)} images have no ReLU input within rounding "
              "of zero")
        agreed &= bool(smooth.any())
        agreed &= compare("gradients", gradient[smooth], theirs["gradient"][smooth], args.tolerance)
    print("agree" if agreed else f"no agreement within {args.tolerance:g}")
    sys.exit(0 if agreed else 1)


if __name__ == "__main__":
    main()
