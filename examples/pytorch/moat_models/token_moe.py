"""The mixture of MLPs of a V-MoE block (Riquelme et al. 2021): experts chosen for each token."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Experts(nn.Module):
    """fc1.weight [experts, 4 width, width], fc2.weight [experts, width, 4 width], and biases."""

    class Bank(nn.Module):
        def __init__(self, experts, outputs, inputs):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))
            self.bias = nn.Parameter(torch.empty(experts, outputs))

    def __init__(self, experts, width, act):
        super().__init__()
        self.fc1, self.fc2 = self.Bank(experts, 4 * width, width), self.Bank(experts, width, 4 * width)
        self.act = act

    def forward(self, x, e):
        hidden = self.act(F.linear(x, self.fc1.weight[e], self.fc1.bias[e]))
        return F.linear(hidden, self.fc2.weight[e], self.fc2.bias[e])


class TokenMoe(nn.Module):
    """The experts of the `active` largest softmax probabilities, weighted by these as they are."""

    def __init__(self, width, act, moe):
        super().__init__()
        self.router = nn.Linear(width, moe["experts"], bias=False)
        self.experts, self.moe = Experts(moe["experts"], width, act), moe

    def has_room(self, weight, expert):
        """Of the choices [tokens, active] of a group: first choices are placed before second ones, and
        within a choice tokens in order, or by falling weight of their first choice."""
        moe, (tokens, active) = self.moe, expert.shape
        group = self.group_tokens
        capacity = math.ceil(moe["capacity"] * group * active / moe["experts"])
        capacity = (capacity + 3) // 4 * 4
        order = torch.arange(tokens)
        if moe["priority"] == "best-gate":
            order = weight[:, 0].sort(descending=True, stable=True).indices
        room = torch.empty(tokens, active, dtype=torch.bool)
        filled = torch.zeros(moe["experts"], dtype=torch.long)
        for choice in range(active):
            chosen = F.one_hot(expert[order, choice], moe["experts"])
            place = (filled + chosen.cumsum(0) - 1).gather(1, expert[order, choice, None])[:, 0]
            room[order, choice] = place < capacity
            filled = filled + chosen.sum(0)
        return room

    def forward(self, x):
        n, tokens, _ = x.shape
        moe, rows = self.moe, x.flatten(0, 1)
        probability = self.router(rows).softmax(1)
        weight, expert = probability.topk(moe["active"])
        ranked = probability.detach().sort(1, descending=True).values
        if moe["active"] < moe["experts"]:
            gap = ranked[:, moe["active"] - 1] - ranked[:, moe["active"]]
            self.distance = gap.view(n, tokens)
        if moe["capacity"] > 0:
            self.group_tokens = tokens * (moe["group"] or n)
            parts = zip(weight.detach().split(self.group_tokens), expert.split(self.group_tokens))
            room = torch.cat([self.has_room(*part) for part in parts])
        else:
            room = torch.ones_like(expert, dtype=torch.bool)
        self.chosen = torch.where(room, expert, -torch.ones_like(expert)).view(n, tokens, -1)
        y = torch.zeros_like(rows)
        for e in range(moe["experts"]):
            token, choice = ((expert == e) & room).nonzero(as_tuple=True)
            y = y.index_add(0, token, self.experts(rows[token], e) * weight[token, choice, None])
        return y.view_as(x)
