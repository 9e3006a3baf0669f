"""ViT and V-MoE in plain PyTorch, as a careful user writes them: fused attention, tokens sorted by
expert once, one product per expert or one grouped product. Nothing waits for the device in the
grouped form, so that it can be recorded as a CUDA graph."""

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(n, tokens, width))


class Mlp(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        return super().forward(x), 0.0


def looped(x, weight, bias, ends):
    """One linear per expert on its slice of x, which is sorted by expert; `ends` is on the device."""
    starts = [0, *ends.tolist()]
    return torch.cat([F.linear(x[a:b], weight[e], bias[e])
                      for e, (a, b) in enumerate(zip(starts, starts[1:]))])


def grouped(x, weight, bias, ends):
    expert = torch.searchsorted(ends, torch.arange(len(x), device=x.device, dtype=ends.dtype), right=True)
    y = torch._grouped_mm(x.to(torch.bfloat16), weight.to(torch.bfloat16).transpose(1, 2), offs=ends)
    return y + bias[expert].to(y.dtype)


class TokenMoe(nn.Module):
    """V-MoE's layer (Riquelme et al. 2021): the `active` largest softmax probabilities of scores, with
    noise of deviation 1 / experts in training, and 0.005 times the importance and load losses."""

    def __init__(self, width, experts, active, product):
        super().__init__()
        self.active, self.product = active, product
        self.router = nn.Linear(width, experts, bias=False)
        for name, outputs, inputs in (("1", 4 * width, width), ("2", width, 4 * width)):
            bound = inputs**-0.5
            self.register_parameter("w" + name, nn.Parameter(
                torch.empty(experts, outputs, inputs).uniform_(-bound, bound)))
            self.register_parameter("b" + name, nn.Parameter(torch.zeros(experts, outputs)))

    def auxiliary(self, scores, threshold):
        """Both as squared coefficients of variation over the experts (the same, appendix A)."""
        def spread(per_expert):
            return per_expert.var(unbiased=False) / per_expert.mean() ** 2

        importance = spread(scores.softmax(1).sum(0))
        load = spread(torch.special.ndtr((scores - threshold) * scores.shape[1]).sum(0))
        return 0.005 * (importance + load)

    def forward(self, x):
        rows = x.flatten(0, 1)
        scores = self.router(rows).float()
        experts = scores.shape[1]
        noisy = scores + torch.randn_like(scores) / experts if self.training else scores
        weight, expert = noisy.softmax(1).topk(self.active)
        loss = 0.0
        if self.training:
            threshold = noisy.gather(1, expert[:, -1:]).detach()
            loss = self.auxiliary(scores, threshold)
        order = expert.flatten().argsort(stable=True)
        token = order // self.active
        ends = F.one_hot(expert.flatten(), experts).sum(0).cumsum(0).to(torch.int32)
        hidden = F.gelu(self.product(rows[token], self.w1, self.b1, ends), approximate="tanh")
        y = self.product(hidden, self.w2, self.b2, ends)
        y = y * weight.flatten()[order, None].to(y.dtype)
        return torch.zeros_like(rows).index_add(0, token, y.to(rows.dtype)).view_as(x), loss


class Block(nn.Module):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), mlp

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        y, loss = self.mlp(self.norm2(x))
        return x + y, loss


class VisionTransformer(nn.Module):
    """-> logits; `auxiliary` is the sum of the last pass's gate losses. `product`: none for a ViT."""

    def __init__(self, side, patch, width, heads, depth, classes, product=None):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + (side // patch) ** 2, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, TokenMoe(width, 8, 2, product) if product and b % 2 else Mlp(width))
            for b in range(depth))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        self.auxiliary = 0.0
        for block in self.blocks:
            x, loss = block(x)
            self.auxiliary = self.auxiliary + loss
        return self.head(self.norm(x[:, 0]))
