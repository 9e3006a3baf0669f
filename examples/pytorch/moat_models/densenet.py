"""DenseNet-BC (Huang et al. 2017), named as in torchvision."""

import torch
import torch.nn.functional as F
from torch import nn

from .kinks import Relu
from .layers import Conv
from .resnet import stem


class DenseLayer(nn.Module):
    """What a layer adds: norm, ReLU, 1x1 to 4 growths, norm, ReLU, 3x3 to one growth."""

    def __init__(self, c_in, growth, make):
        super().__init__()
        self.norm1, self.relu1, self.conv1 = nn.BatchNorm2d(c_in), Relu(), make.routed(c_in, 4 * growth, 1)
        self.norm2, self.relu2 = nn.BatchNorm2d(4 * growth), Relu()
        self.conv2 = make.routed(4 * growth, growth)

    def forward(self, x, route):
        y = self.conv1(self.relu1(self.norm1(x)), route)
        return torch.cat([x, self.conv2(self.relu2(self.norm2(y)), route)], 1)


class Transition(nn.Module):
    """Half the channels, by a convolution that experts share, and half the resolution."""

    def __init__(self, c_in):
        super().__init__()
        self.norm, self.relu, self.conv = nn.BatchNorm2d(c_in), Relu(), Conv(c_in, c_in // 2, 1)

    def forward(self, x):
        return F.avg_pool2d(self.conv(self.relu(self.norm(x))), 2)


class DenseNet(nn.Module):
    def __init__(self, blocks, growths, stem_width, in_channels, outputs, make, form="cifar"):
        super().__init__()
        conv0, pool0 = stem(in_channels, stem_width, form)
        self.features, channels = nn.ModuleDict({"conv0": conv0}), stem_width
        if form == "imagenet":
            self.features.update({"norm0": nn.BatchNorm2d(channels), "relu0": Relu(), "pool0": pool0})
        for s, (count, growth) in enumerate(zip(blocks, growths)):
            layers = nn.ModuleDict()
            for i in range(count):
                layers[f"denselayer{i + 1}"] = DenseLayer(channels, growth, make)
                channels += growth
            self.features[f"denseblock{s + 1}"] = layers
            if s + 1 < len(blocks):
                self.features[f"transition{s + 1}"] = Transition(channels)
                channels //= 2
        self.features[f"norm{len(blocks) + 1}"] = nn.BatchNorm2d(channels)
        self.features["relu"] = Relu()
        self.classifier = nn.Linear(channels, outputs)

    def forward(self, x, route=None):
        for part in self.features.values():
            if isinstance(part, nn.ModuleDict):
                for layer in part.values():
                    x = layer(x, route)
            else:
                x = part(x)
        return self.classifier(x.mean((2, 3)))
