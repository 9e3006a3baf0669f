"""Residual networks (He et al. 2016) with CIFAR and ImageNet stems."""

import torch.nn.functional as F
from torch import nn

from .kinks import MaxPool, Relu
from .layers import Conv


def stem(c_in, width, form):
    """-> the first convolution, and the max-pool that an imagenet stem has behind its norm and ReLU."""
    if form == "imagenet":
        return Conv(c_in, width, 7, 2), MaxPool(3, 2, 1)
    return Conv(c_in, width), nn.Identity()


class Block(nn.Module):
    """conv1, bn1, conv2, bn2 (basic) or 1x1, 3x3 and a 1x1 to 4 times the width (bottleneck)."""

    def __init__(self, c_in, width, stride, make, block, shortcut, shared_projection):
        super().__init__()
        if block == "basic":
            convs, self.width = [(c_in, width, 3, stride), (width, width, 3, 1)], width
        else:
            self.width = 4 * width
            convs = [(c_in, width, 1, 1), (width, width, 3, stride), (width, self.width, 1, 1)]
        self.count = len(convs)
        for i, shape in enumerate(convs, 1):
            self.add_module(f"conv{i}", make.routed(*shape))
            self.add_module(f"bn{i}", nn.BatchNorm2d(shape[1]))
            self.add_module(f"relu{i}", Relu())
        self.stride, self.padding = stride, self.width - c_in
        if shortcut == "projection" and (stride != 1 or c_in != self.width):
            projection = Conv if shared_projection else make.routed
            conv, norm = projection(c_in, self.width, 1, stride), nn.BatchNorm2d(self.width)
            self.downsample = nn.ModuleList([conv, norm])

    def around(self, x, route):
        if hasattr(self, "downsample"):
            conv, norm = self.downsample
            return norm(conv(x, route))
        front = self.padding // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, front, self.padding - front))

    def forward(self, x, route=None):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y, route))
            if i == self.count:
                y = y + self.around(x, route)
            y = getattr(self, f"relu{i}")(y)
        return y


class ResNet(nn.Module):
    def __init__(self, blocks, widths, stem_width, in_channels, outputs, make, block="basic", form="cifar",
                 shortcut="projection"):
        super().__init__()
        self.conv1, self.pool = stem(in_channels, stem_width, form)
        self.bn1, self.relu = nn.BatchNorm2d(stem_width), Relu()
        self.stages, c_in = len(blocks), stem_width
        for stage, (count, width) in enumerate(zip(blocks, widths)):
            layers = nn.ModuleList()
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                layers.append(Block(c_in, width, stride, make, block, shortcut, form == "cifar"))
                c_in = layers[-1].width
            self.add_module(f"layer{stage + 1}", layers)
        self.fc = nn.Linear(c_in, outputs)

    def forward(self, x, route=None):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            for block in getattr(self, f"layer{stage + 1}"):
                x = block(x, route)
        return self.fc(x.mean((2, 3)))
