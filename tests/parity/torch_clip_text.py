"""The text tower of CLIP in plain PyTorch, with the names of OpenAI's checkpoints."""

from collections import OrderedDict

import torch
from torch import nn


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class ResBlock(nn.Module):
    def __init__(self, width, heads, act):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": act()}
        self.mlp = nn.Sequential(OrderedDict(layers, c_proj=nn.Linear(4 * width, width)))

    def forward(self, x):
        later = torch.full((x.shape[1], x.shape[1]), -torch.inf, dtype=x.dtype).triu(1)
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=later, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TextTower(nn.Module):
    def __init__(self, width=512, heads=8, depth=12, dim=512, vocabulary=49408, act=QuickGELU):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(77, width))
        self.transformer = nn.Module()
        blocks = [ResBlock(width, heads, act) for _ in range(depth)]
        self.transformer.resblocks = nn.Sequential(*blocks)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, dim) / width**0.5)

    def forward(self, ids):
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        x = self.ln_final(self.transformer.resblocks(x))
        return x[torch.arange(len(ids)), ids.argmax(1)] @ self.text_projection
