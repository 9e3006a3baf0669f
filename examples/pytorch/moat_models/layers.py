"""The convolutions that moat's networks are made of. None has a bias; each is called with the route."""

import torch
import torch.nn.functional as F
from torch import nn


class Route:
    """An expert per image, and a gate of value 1 that carries the router's gradient (or None)."""

    def __init__(self, expert, gate=None):
        self.expert, self.gate = expert, gate

    @classmethod
    def hard(cls, scores, gate):
        expert = scores.argmax(1)
        passed = scores.softmax(1) if gate == "softmax" else scores
        passed = passed.gather(1, expert[:, None])[:, 0]
        return cls(expert, 1 + passed - passed.detach())


class Conv(nn.Conv2d):
    def __init__(self, c_in, width, size=3, stride=1):
        super().__init__(c_in, width, size, stride, padding=size // 2, bias=False)

    def forward(self, x, route=None):
        return super().forward(x)


class MoeConv(nn.Module):
    """Expert e owns rows [e * width, (e + 1) * width) of the weight; each image meets its own."""

    def __init__(self, c_in, width, size, stride, experts):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts * width, c_in, size, size))
        self.width, self.stride, self.experts = width, stride, experts

    def forward(self, x, route):
        y = F.conv2d(x, self.weight, stride=self.stride, padding=self.weight.shape[2] // 2)
        y = y.unflatten(1, (self.experts, self.width))[torch.arange(len(x)), route.expert]
        return y if route.gate is None else y * route.gate[:, None, None, None]


class SparseConv(Conv):
    """Only the filters of the largest |scores| count; a score's gradient is that of a factor |score|."""

    def __init__(self, c_in, width, size, stride, kept):
        super().__init__(c_in, width, size, stride)
        self.scores = nn.Parameter(torch.empty(width))
        self.kept = max(1, int(kept * width))

    def forward(self, x, route=None):
        size = self.scores.abs()
        larger = (size[None, :] > size[:, None]).sum(1)
        factor = (larger < self.kept).to(size.dtype) + size - size.detach()
        weight = self.weight * factor[:, None, None, None]
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding)


class LayerMaker:
    """`routed` convolutions have a filter per expert, or scores in a sparse network."""

    def __init__(self, experts=1, kept=1):
        self.experts, self.kept = experts, kept

    def routed(self, c_in, width, size=3, stride=1):
        if self.experts > 1:
            return MoeConv(c_in, width, size, stride, self.experts)
        if self.kept < 1:
            return SparseConv(c_in, width, size, stride, self.kept)
        return Conv(c_in, width, size, stride)
