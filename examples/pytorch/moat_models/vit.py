"""Vision transformers (Dosovitskiy et al. 2021), named as in timm, with V-MoE blocks."""

import torch
from torch import nn

from .token_moe import TokenMoe


def activation(name):
    return {"relu": nn.ReLU(), "gelu": nn.GELU(), "gelu-tanh": nn.GELU(approximate="tanh")}[name]


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(2, 3) * (width // self.heads) ** -0.5
        return self.proj((scores.softmax(3) @ v).transpose(1, 2).reshape(n, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width, act):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, 4 * width), act, nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, transformer, routed):
        super().__init__()
        act = activation(transformer["activation"])
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, transformer["heads"])
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        if routed:
            self.moe = TokenMoe(width, act, transformer["moe"])
        else:
            self.mlp = Mlp(width, act)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + (self.moe if hasattr(self, "moe") else self.mlp)(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, in_channels, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch, patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    def __init__(self, depth, width, image, in_channels, outputs, transformer):
        super().__init__()
        patch = transformer["patch"]
        tokens = 1 + (image[0] // patch) * (image[1] // patch)
        self.patch_embed = PatchEmbed(in_channels, width, patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width))
        routed = transformer.get("moe", {}).get("blocks", [])
        self.blocks = nn.ModuleList(Block(width, transformer, b in routed) for b in range(depth))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, outputs)

    def forward(self, x, route=None):
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))
