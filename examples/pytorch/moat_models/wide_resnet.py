"""Wide residual networks (Zagoruyko & Komodakis 2016), named as in RobustBench, and pre-activation
ResNets (He et al. 2016, arXiv 1603.05027), which are the same blocks in other stages."""

from torch import nn

from .kinks import Relu
from .resnet import stem


class Block(nn.Module):
    """Norm and ReLU in front of each convolution. Where the shape changes, the shortcut sees what the
    first of them gives; with a `raw` transition both see the block's input, and bn1 is thrown away;
    with a `raw-shortcut` the shortcut alone does."""

    def __init__(self, c_in, width, stride, make, transition):
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(c_in), Relu()
        self.conv1 = make.routed(c_in, width, 3, stride)
        self.bn2, self.relu2 = nn.BatchNorm2d(width), Relu()
        self.conv2 = make.routed(width, width)
        self.raw, self.raw_shortcut = False, transition == "raw-shortcut"
        if stride != 1 or c_in != width:
            self.convShortcut = make.routed(c_in, width, 1, stride)
            self.raw = transition == "raw"

    def forward(self, x, route=None):
        y = x if self.raw else self.relu1(self.bn1(x))
        z = self.conv2(self.relu2(self.bn2(self.conv1(y, route))), route)
        if not hasattr(self, "convShortcut"):
            return z + x
        return z + self.convShortcut(x if self.raw_shortcut else y, route)


class Stage(nn.Module):
    def __init__(self, count, c_in, width, stride, make, transition):
        super().__init__()
        self.layer = nn.ModuleList(Block(width if i else c_in, width, 1 if i else stride, make, transition)
                                   for i in range(count))

    def forward(self, x, route=None):
        for block in self.layer:
            x = block(x, route)
        return x


class WideResNet(nn.Module):
    def __init__(self, blocks, widths, stem_width, in_channels, outputs, make, form="cifar",
                 transition="activated", head_norm="batch"):
        super().__init__()
        self.conv1, self.pool = stem(in_channels, stem_width, form)
        if form == "imagenet":
            self.stem_bn, self.stem_relu = nn.BatchNorm2d(stem_width), Relu()
        self.stages, c_in = len(blocks), stem_width
        for s, (count, width) in enumerate(zip(blocks, widths)):
            self.add_module(f"block{s + 1}", Stage(count, c_in, width, 2 if s else 1, make, transition))
            c_in = width
        if head_norm == "batch":
            self.bn1, self.relu = nn.BatchNorm2d(c_in), Relu()
        self.fc = nn.Linear(c_in, outputs)

    def forward(self, x, route=None):
        x = self.conv1(x)
        if hasattr(self, "stem_bn"):
            x = self.pool(self.stem_relu(self.stem_bn(x)))
        for s in range(self.stages):
            x = getattr(self, f"block{s + 1}")(x, route)
        if hasattr(self, "bn1"):
            x = self.relu(self.bn1(x))
        return self.fc(x.mean((2, 3)))
