"""VGG with batch norm (Simonyan & Zisserman 2015) as used on CIFAR-10 or ImageNet, named as in torchvision."""

import torch.nn.functional as F
from torch import nn

from .kinks import MaxPool, Relu
from .layers import Conv


class Vgg(nn.Module):
    """The first convolution is shared by all experts. Averaged to 2x2, 256 hidden units (cifar), or a
    max-pool, averaged to 7x7, 4096 hidden units (imagenet); no dropout."""

    def __init__(self, blocks, widths, stem_width, in_channels, outputs, make, head):
        super().__init__()
        layers, c_in = [], in_channels
        for s, (count, width) in enumerate(zip(blocks, widths)):
            if s:
                layers.append(MaxPool(2, 2))
            for _ in range(count):
                first = not layers
                out = stem_width if first else width
                layers += [(Conv if first else make.routed)(c_in, out), nn.BatchNorm2d(out), Relu()]
                c_in = out
        self.side, hidden = (2, 256) if head == "cifar" else (7, 4096)
        if head == "imagenet":
            layers.append(MaxPool(2, 2))
        self.features = nn.ModuleList(layers)
        self.classifier = nn.Sequential(nn.Linear(self.side**2 * c_in, hidden), Relu(),
                                        nn.Linear(hidden, hidden), Relu(), nn.Linear(hidden, outputs))

    def forward(self, x, route=None):
        plain = (MaxPool, nn.BatchNorm2d, Relu)
        for layer in self.features:
            x = layer(x) if isinstance(layer, plain) else layer(x, route)
        return self.classifier(F.adaptive_avg_pool2d(x, self.side).flatten(1))
