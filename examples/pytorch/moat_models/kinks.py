"""Layers with kinks, and which images keep away from them.

A ReLU input within rounding of zero may fall on either side of it in two correct programs, and so may
two equal pixels of a max-pool or two equal scores of a choice. There, gradients cannot be compared.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn


class Relu(nn.Module):
    """Remembers how far it was from its kink: its input."""

    def forward(self, x):
        self.distance = x.detach()
        return x.relu()


class MaxPool(nn.Module):
    """Of pixels that are not negative. Its distance: the largest of a window less the second largest."""

    def __init__(self, size, stride, padding=0):
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x):
        padded = F.pad(x.detach(), [self.padding] * 4)
        windows = padded.unfold(2, self.size, self.stride).unfold(3, self.size, self.stride)
        first, second = windows.flatten(4).topk(2, -1).values.unbind(-1)
        self.distance = torch.where(first > 0, first - second, torch.ones_like(first))
        return F.max_pool2d(x, self.size, self.stride, self.padding)


def smooth_images(network, images):
    """Whether an image is further from every kink than twice the largest rounding error in its channel.
    How much rounding there is is measured, against the same network in float64."""
    exact = copy.deepcopy(network).double()
    with torch.no_grad():
        network(images)
        exact(images.double())
    smooth = torch.ones(len(images), dtype=torch.bool)
    for ours, theirs in zip(network.modules(), exact.modules()):
        if hasattr(ours, "distance"):
            here, there = (d.flatten(2) if d.dim() > 2 else d[:, None]
                           for d in (ours.distance, theirs.distance))
            rounding = (here - there).abs().amax(2, keepdim=True)
            exact_zero = (there == 0) & (rounding == 0)  # of filters that do not count: never a slope
            away = (exact_zero | (there.abs() > 2 * rounding)).flatten(1).all(1)
            smooth &= away.view(len(images), -1).all(1)  # one row per expert of an image
    return smooth
