"""Writes the golden files next to it: small random networks, and what PyTorch computes with them.

    python tests/golden/make_golden.py

NAME.safetensors is a checkpoint as moat writes it; NAME.expected.safetensors holds images, labels,
logits, routes, the gradient of the summed cross-entropy with respect to the images (through the gate,
and with the gate blocked), and which images have no ReLU input within rounding of zero.
"""

import json
import struct
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "examples" / "pytorch"))
from load_moat import DTYPES, Network, smooth_images  # noqa: E402

IMAGES, CHANNELS, HEIGHT, WIDTH, CLASSES = 16, 2, 9, 6, 5

DENSE = {"family": "resnet", "name": "golden", "blocks": [1, 2], "widths": [6, 10], "stem_width": 6,
         "scaled_stem": True, "in_channels": CHANNELS, "classes": CLASSES, "shortcut": "projection",
         "experts": 1, "ratio": 1, "image": [HEIGHT, WIDTH]}
ROUTER = {"blocks": [1, 1], "widths": [3, 4], "score_norm": True}
ROUTED = DENSE | {"experts": 3, "ratio": 0.5, "gate": "softmax", "router": ROUTER}
GOLDEN = {
    "dense": DENSE,
    "dense-pad": DENSE | {"shortcut": "pad", "blocks": [2, 1, 1], "widths": [6, 7, 10]},
    "moe-softmax": ROUTED,
    "moe-straight-through": ROUTED | {"gate": "straight-through", "shortcut": "pad", "stem_width": 4,
                                      "widths": [9, 14], "scaled_stem": False,
                                      "router": ROUTER | {"score_norm": False}},
}


def write_safetensors(path, tensors, metadata):
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        values = tensor.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def randomised(network):
    """Nothing keeps its neutral value, so that nothing can be forgotten."""
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            torch.nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    network.normalize.mean.uniform_(0.3, 0.6)
    network.normalize.std.uniform_(0.2, 0.4)
    return network.eval()


def balanced(router, pixels):
    """Every expert gets some of the images."""
    with torch.no_grad():
        scores = router(pixels)
        router.fc.bias -= scores.mean(0)
        if hasattr(router, "score_norm"):
            router.score_norm.running_var.copy_(scores.var(0))
            router.score_norm.running_mean.uniform_(-0.1, 0.1).mul_(scores.std(0))


def input_gradient(network, images, labels):
    images = images.clone().requires_grad_(True)
    logits, _ = network(images)
    return torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), images)[0]


def make(name, spec):
    network = randomised(Network(spec))
    labels = torch.arange(IMAGES) % CLASSES
    images = torch.rand(IMAGES, CHANNELS, HEIGHT, WIDTH) * torch.rand(IMAGES, CHANNELS, 1, 1)
    if spec["experts"] > 1:
        balanced(network.router, network.normalize(images))
    with torch.no_grad():
        logits, route = network(images)
    expected = {"labels": labels, "images": images, "logits": logits,
                "gradient": input_gradient(network, images, labels),
                "smooth": smooth_images(network, images).to(torch.uint8)}
    if route is not None:
        expected["routes"] = route.expert.int()
        network.router.register_forward_hook(lambda module, inputs, scores: scores.detach())
        expected["gradient_blocked"] = input_gradient(network, images, labels)
    weights = {name: tensor for name, tensor in network.state_dict().items()
               if not name.endswith("num_batches_tracked")}
    write_safetensors(HERE / f"{name}.safetensors", weights, {"architecture": json.dumps(spec)})
    write_safetensors(HERE / f"{name}.expected.safetensors", expected,
                      {"made_by": f"PyTorch {torch.__version__}"})
    counts = torch.bincount(route.expert).tolist() if route else "none"
    print(f"{name}: routes {counts}, {int(expected['smooth'].sum())} smooth images, largest gradient "
          f"{expected['gradient'].abs().max():.2g}")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for name, spec in GOLDEN.items():
        make(name, spec)
