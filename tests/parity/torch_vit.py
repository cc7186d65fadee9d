"""Vision transformers in plain PyTorch, with the names that their authors' files have."""

import torch
from torch import nn


class _Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.heads = heads

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(
            nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        )


class _Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class _SwiGLU(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.w12 = nn.Linear(dim, 8 * dim)
        self.w3 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(nn.functional.silu(gate) * value)


class _LayerScale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.gamma


class _Block(nn.Module):
    def __init__(self, dim, heads, mlp, scale):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, 1e-6)
        self.attn = _Attention(dim, heads)
        self.ls1 = _LayerScale(dim) if scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, 1e-6)
        self.mlp = mlp(dim)
        self.ls2 = _LayerScale(dim) if scale else nn.Identity()

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Facebook(nn.Module):
    """DINO (`dinov2=False`) and DINOv2 of facebookresearch; images [b 3 H W] -> [b dim].

    Positions are resampled by a factor that has 0.1 patches added to the new size; with registers,
    to the size itself, antialiased.

    Args:
        dim: Channels.
        depth: Blocks, in one nameless group for DINOv2 as in its training.
        heads: Attention heads.
        patch: Pixels on a side of a patch.
        grid: Patches on a side of the trained images.
        registers: Register tokens.
        dinov2: Layer scale, mask token, and blocks in a group.
        swiglu: The gated MLP.
    """

    def __init__(self, dim, depth, heads, patch, grid, registers=0, dinov2=True, swiglu=False):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid**2, dim))
        if registers:
            self.register_tokens = nn.Parameter(torch.randn(1, registers, dim))
        if dinov2:
            self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, patch, patch)
        mlp = _SwiGLU if swiglu else _Mlp
        blocks = [_Block(dim, heads, mlp, dinov2) for _ in range(depth)]
        self.blocks = nn.ModuleList([nn.Sequential(*blocks)] if dinov2 else blocks)
        self.norm = nn.LayerNorm(dim, 1e-6)
        self.grid, self.registers = grid, registers

    def forward(self, images):
        cells = self.patch_embed.proj(images)
        h, w = cells.shape[2:]
        own, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if (h, w) != (self.grid, self.grid):
            rest = rest.view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
            if self.registers:
                rest = nn.functional.interpolate(rest, size=(h, w), mode="bicubic", antialias=True)
            else:
                factor = ((h + 0.1) / self.grid, (w + 0.1) / self.grid)
                rest = nn.functional.interpolate(rest, scale_factor=factor, mode="bicubic")
            rest = rest.flatten(2).transpose(1, 2)
        x = cells.flatten(2).transpose(1, 2) + rest
        tokens = [self.cls_token + own]
        if self.registers:
            tokens.append(self.register_tokens)
        x = torch.cat([*(t.expand(len(x), -1, -1) for t in tokens), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class _ResidualAttentionBlock(nn.Module):
    def __init__(self, dim, heads, act):
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(dim, 4 * dim))
        self.mlp.add_module("act", act())
        self.mlp.add_module("c_proj", nn.Linear(4 * dim, dim))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class ClipVisual(nn.Module):
    """CLIP's image tower as OpenAI names it; images [b 3 H W] -> [b output]."""

    def __init__(self, dim, depth, heads, patch, grid, output, act=QuickGELU):
        super().__init__()
        self.conv1 = nn.Conv2d(3, dim, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(dim))
        self.positional_embedding = nn.Parameter(torch.randn(1 + grid**2, dim))
        self.ln_pre = nn.LayerNorm(dim)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(
            *(_ResidualAttentionBlock(dim, heads, act) for _ in range(depth))
        )
        self.ln_post = nn.LayerNorm(dim)
        self.proj = nn.Parameter(torch.randn(dim, output))
        self.grid = grid

    def forward(self, images):
        cells = self.conv1(images)
        h, w = cells.shape[2:]
        own, rest = self.positional_embedding[:1], self.positional_embedding[1:]
        if (h, w) != (self.grid, self.grid):  # as OpenCLIP does when it loads a file
            rest = rest.view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
            rest = nn.functional.interpolate(rest, size=(h, w), mode="bicubic", antialias=True)
            rest = rest.flatten(2).transpose(1, 2)[0]
        x = cells.flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1)
        x = self.ln_pre(x + torch.cat([own, rest]))
        return self.ln_post(self.transformer.resblocks(x)[:, 0]) @ self.proj
