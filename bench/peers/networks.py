"""CIFAR-type residual networks in plain PyTorch: dense, and as a mixture of experts in the form in
which AdvMoE was released (every expert of a convolution is computed, then all but one are masked)."""

import torch
import torch.nn.functional as F
from torch import nn


def conv(c_in, c_out, size=3, stride=1):
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016); `make_conv` makes the two."""

    def __init__(self, c_in, c_out, stride, make_conv=conv, shortcut="projection"):
        super().__init__()
        self.conv1, self.bn1 = make_conv(c_in, c_out, 3, stride), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = make_conv(c_out, c_out, 3, 1), nn.BatchNorm2d(c_out)
        self.stride, self.padded = stride, c_out - c_in
        self.downsample = None
        if shortcut == "projection" and (stride != 1 or c_in != c_out):
            self.downsample = nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))

    def shortcut(self, x):
        if self.downsample is not None:
            return self.downsample(x)
        if self.stride == 1 and self.padded == 0:
            return x
        front = self.padded // 2  # option A: every stride-th pixel, zero channels around
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.padded - front))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    def __init__(self, blocks, widths, stem_width, in_channels, classes, make_conv=conv,
                 shortcut="projection"):
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, stem_width), nn.BatchNorm2d(stem_width)
        stages, c_in = [], stem_width
        for stage, (count, width) in enumerate(zip(blocks, widths)):
            layers = []
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Block(c_in, width, stride, make_conv, shortcut))
                c_in = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(c_in, classes)

    def forward(self, x):
        x = self.stages(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.fc(x.mean((2, 3)))


class MaskedConv(nn.Module):
    """N experts of one width as a single wide convolution; each image keeps its expert's channels."""

    def __init__(self, experts, c_in, width, size, stride):
        super().__init__()
        self.experts, self.width = experts, width
        self.conv = conv(c_in, experts * width, size, stride)
        self.gate = None  # [n, experts]: 1 for the chosen expert, 0 elsewhere; set per forward pass

    def forward(self, x):
        y = self.conv(x) * self.gate.repeat_interleave(self.width, 1)[:, :, None, None]
        every_image = torch.arange(len(x), device=x.device)
        # Indexing keeps channels_last, which torch.gather would not.
        return y.unflatten(1, (self.experts, self.width))[every_image, self.gate.argmax(1)]


class MoeResNet(nn.Module):
    """One route per image for all layers, from a CIFAR ResNet-20; straight-through on the softmax of
    normalised scores. In evaluation mode, that of attacks, no gradient passes the gate, as by moat's
    default, train.gate=blocked."""

    def __init__(self, blocks, widths, stem_width, in_channels, classes, experts, ratio):
        super().__init__()
        make_conv = lambda *shape: MaskedConv(experts, *shape)
        self.net = ResNet(blocks, [int(ratio * width) for width in widths], int(ratio * stem_width),
                          in_channels, classes, make_conv)
        self.router = ResNet([3, 3, 3], [16, 32, 64], 16, in_channels, experts, shortcut="pad")
        self.score_norm = nn.BatchNorm1d(experts, affine=False)
        self.masked = [m for m in self.net.modules() if isinstance(m, MaskedConv)]

    def forward(self, x):
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            p = self.score_norm(self.router(x)).softmax(1)
        hard = F.one_hot(p.argmax(1), p.shape[1]).to(p.dtype)
        gate = hard + p - p.detach() if self.training else hard
        for layer in self.masked:
            layer.gate = gate
        return self.net(x)
