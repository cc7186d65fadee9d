"""Vision transformers: ViT, DeiT, DINO, DINOv2, MoCo v3, and the image towers of CLIP and SigLIP.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021). They share one architecture and differ
in tokens, norms, activation and head: the columns of `Variant`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, as_input
from pretrained_ports.models.network import Network
from pretrained_ports.models.positions import Resampling, resample
from pretrained_ports.models.transformer import (
    Block,
    LayerNorm,
    Mlp,
    attention,
    gelu,
    linear,
    quick_gelu,
)

gelu_tanh = partial(jax.nn.gelu, approximate=True)


class Variant(NamedTuple):
    """One row of `VARIANTS`.

    Attributes:
        patch: Pixels on a side of a patch.
        dim: Channels.
        depth: Blocks.
        heads: Attention heads.
        grid: Patches on a side of the square images that the positions were trained on.
        hidden: Channels inside the MLP; 4 dim where it is 0.
        tokens: Learned tokens before the patches, [1 k dim] each, and how many of each.
        positioned: How many of those tokens have a position of their own, from the first.
        resampling: How positions are fitted to another grid.
        epsilon: Of the layer norms.
        act: The MLP's activation; None for SwiGLU.
        layer_scale: Whether every branch has a factor per channel.
        norm_pre: Whether a norm stands before the blocks; the patches then have no bias.
        pool: "token" takes the class token (with a distillation token, the mean of both),
            "attention" lets a learned query attend to all.
        output: Channels after the projection "head"; 0 for none.
        output_bias: Whether that has a bias.
    """

    patch: int
    dim: int
    depth: int
    heads: int
    grid: int
    hidden: int = 0
    tokens: tuple[tuple[str, int], ...] = (("cls_token", 1),)
    positioned: int = 1
    resampling: Resampling = Resampling(antialias=True)
    epsilon: float = 1e-6
    act: Callable[[Array], Array] | None = gelu
    layer_scale: bool = False
    norm_pre: bool = False
    pool: str = "token"
    output: int = 0
    output_bias: bool = False

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        return sum(count for _, count in self.tokens)


# name -> dim, depth, heads
_SIZES = {
    "mini": (128, 4, 4),  # ours: examples/train_self_supervised.py trains it
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "giant": (1536, 40, 24),
}

# facebookresearch/dino and dinov2 give interpolate the factor (patches + 0.1) / trained patches.
# transformers passes the size instead, and timm antialiases: theirs differ slightly.
_DINO = Resampling(antialias=False, offset=0.1)
_PLAIN = Resampling(antialias=False)  # facebookresearch/deit
# timm and OpenCLIP; also for those that never had another size: MoCo v3, SigLIP
_ANTIALIAS = Resampling(antialias=True)

_DISTILLED = {"tokens": (("cls_token", 1), ("dist_token", 1)), "positioned": 2}
_REGISTERS = {"tokens": (("cls_token", 1), ("reg_token", 4)), "resampling": _ANTIALIAS}
_CLIP = {"epsilon": 1e-5, "norm_pre": True}
_SIGLIP = {"tokens": (), "positioned": 0, "act": gelu_tanh, "pool": "attention"}


def _variant(size: str, patch: int, image: int = 224, **options) -> Variant:
    return Variant(patch, *_SIZES[size], grid=image // patch, **options)


def _dinov2(size: str, **options) -> Variant:
    if size == "giant":
        options |= {"act": None, "hidden": 4096}
    options = {"resampling": _DINO, **options}
    return _variant(size, 14, 518, layer_scale=True, **options)


VARIANTS = {
    "vit-mini-patch8": _variant("mini", 8, image=64),
    **{
        f"vit-{size}-patch{patch}": _variant(size, patch)
        for size in ("tiny", "small", "base", "large")
        for patch in (8, 14, 16, 32)
    },
    **{
        f"deit-{size}-patch16{suffix}": _variant(size, 16, resampling=_PLAIN, **options)
        for size in ("tiny", "small", "base")
        for suffix, options in (("", {}), ("-distilled", _DISTILLED))
    },
    **{
        f"dino-{size}-patch{patch}": _variant(size, patch, resampling=_DINO)
        for size in ("small", "base")
        for patch in (8, 16)
    },
    **{
        f"dinov2-{size}{suffix}": _dinov2(size, **options)
        for size in ("small", "base", "large", "giant")
        for suffix, options in (("", {}), ("-reg4", _REGISTERS))
    },
    # MoCo v3's small one has 12 heads. Its positions are sines and cosines, and in the file.
    "vit-small-patch16-moco-v3": _variant("small", 16)._replace(heads=12),
    "vit-base-patch16-moco-v3": _variant("base", 16),
    # OpenAI's own have the quick GELU; those that others trained, as a rule, the exact one.
    **{
        f"clip-vit-{name}{suffix}": _variant(size, patch, output=output, act=act, **_CLIP)
        for name, size, patch, output in (
            ("b32", "base", 32, 512),
            ("b16", "base", 16, 512),
            ("l14", "large", 14, 768),
        )
        for suffix, act in (("", quick_gelu), ("-gelu", gelu))
    },
    "siglip-base-patch16": _variant("base", 16, **_SIGLIP),
}


class Patches(nnx.Conv):
    """A convolution whose stride is its size, [b H W 3] -> [b H/p W/p dim], as one product."""

    def __init__(self, patch: int, dim: int, bias: bool, *, rngs: nnx.Rngs, param_dtype: DTypeLike):
        size = (patch, patch)
        super().__init__(3, dim, size, size, use_bias=bias, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b H W c"]) -> Float[Array, "b h w d"]:
        """Apply the layer."""
        b, height, width, c = x.shape
        p, d = self.kernel.shape[0], self.kernel.shape[-1]
        h, w = height // p, width // p
        x = x.reshape(b, h, p, w, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, p * p * c)
        x = x @ self.kernel[...].reshape(-1, d)
        return x if self.bias is None else x + self.bias[...].reshape(1, 1, 1, d)


class PatchEmbed(nnx.Module):
    """Images to tokens, [b H W 3] -> [b h w dim]; the convolution is at "patch_embed.proj"."""

    def __init__(self, patch: int, dim: int, bias: bool, **init):
        self.proj = Patches(patch, dim, bias, **init)

    def __call__(self, x: Float[Array, "b H W c"]) -> Float[Array, "b h w d"]:
        """Apply the layer."""
        return self.proj(x)


class AttentionPool(nnx.Module):
    """A learned query attends to all tokens, then a residual MLP: [b n dim] -> [b dim].

    Zhai et al., "Scaling Vision Transformers" (2022).
    """

    def __init__(self, variant: Variant, **init):
        dim, hidden = variant.dim, variant.hidden or 4 * variant.dim
        self.latent = nnx.Param(jnp.zeros((1, 1, dim), init["param_dtype"]))
        self.qkv = linear(dim, 3 * dim, **init)
        self.proj = linear(dim, dim, **init)
        self.norm = LayerNorm(dim, variant.epsilon, **init)
        assert variant.act is not None  # no family has both this and SwiGLU
        self.mlp = Mlp(dim, hidden, variant.act, **init)
        self.heads = variant.heads

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b c"]:
        """Pool the tokens."""
        b, n, c = x.shape
        assert self.qkv.bias is not None
        kernel, bias = self.qkv.kernel[...], self.qkv.bias[...]
        q = self.latent[0] @ kernel[:, :c] + bias[None, :c]
        kv = x @ kernel[:, c:] + bias[None, None, c:]
        k, v = kv.reshape(b, n, 2, self.heads, -1).transpose(2, 0, 3, 1, 4)
        q = jnp.broadcast_to(q.reshape(1, self.heads, 1, -1), (*k.shape[:2], 1, k.shape[3]))
        x = self.proj((attention(q, k).astype(v.dtype) @ v).reshape(b, c))
        return x + self.mlp(self.norm(x))


class VisionTransformer(Network):
    """An image tower: images [b H W 3] -> the embedding that its family compares [b d].

    That is the class token after the last norm: as it is, averaged with the distillation token, or
    projected by "head" (CLIP); or what "attn_pool" makes of all tokens (SigLIP).

    Blocks are at "blocks.0" ..., [b n dim], n = the tokens before the patches and then the patches
    row by row. Only attention moves anything from patches to a class token, so the embedding does
    not depend on the patches that leave the last block. Of those that enter it, it depends through
    a norm alone, which forgets their length: gradient times activation is 0 there, too. Explain
    what the last attention reads, "blocks.N.norm1" ("norm" where "attn_pool" is what reads).

    Args:
        variant: A row of `VARIANTS`.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Example:
        >>> model = VisionTransformer(VARIANTS["vit-tiny-patch16"], rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 32, 48, 3))).shape
        (2, 192)
    """

    def __init__(self, variant: Variant, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        patch, dim, depth, heads, grid = variant[:5]

        def learned(count: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, count, dim), param_dtype))

        self.patch_embed = PatchEmbed(patch, dim, bias=not variant.norm_pre, **init)
        for name, count in variant.tokens:
            setattr(self, name, learned(count))
        self.pos_embed = learned(variant.positioned + grid**2)
        self.norm_pre = LayerNorm(dim, variant.epsilon, **init) if variant.norm_pre else Stage()
        self.blocks = Stage(
            Block(
                dim,
                heads,
                variant.hidden or 4 * dim,
                epsilon=variant.epsilon,
                act=variant.act,
                layer_scale=variant.layer_scale,
                **init,
            )
            for _ in range(depth)
        )
        self.norm = LayerNorm(dim, variant.epsilon, **init)
        self.attn_pool = AttentionPool(variant, **init) if variant.pool == "attention" else None
        self.head = Stage()
        if variant.output:
            self.head = linear(dim, variant.output, bias=variant.output_bias, **init)
        self.variant = variant

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3], or a side is no multiple of the patch.
        """
        x = as_input(images, like=self.patch_embed.proj)
        _check_size(x.shape[1:3], self.variant.patch)
        x = self.norm_pre(self._tokens(self.patch_embed(x)))
        x = self.blocks(x)
        if self.attn_pool is not None:
            return self.head(self.attn_pool(self.norm(x)))
        # a norm works on each token by itself: only those that are read
        names = [name for name, _ in self.variant.tokens if name != "reg_token"]
        return self.head(self.norm(x[:, : len(names)]).mean(1))

    def _tokens(self, cells: Float[Array, "b h w c"]) -> Float[Array, "b n c"]:
        """Patches with their positions, behind the learned tokens with theirs."""
        b, h, w, c = cells.shape
        variant, positions = self.variant, self.pos_embed[...]
        own, rest = positions[:, : variant.positioned], positions[:, variant.positioned :]
        x = cells.reshape(b, h * w, c) + resample(
            rest, (variant.grid, variant.grid), (h, w), variant.resampling
        )
        if not variant.tokens:
            return x
        prefix = jnp.concatenate([getattr(self, name)[...] for name, _ in variant.tokens], 1)
        prefix = prefix.at[:, : variant.positioned].add(own)
        return jnp.concatenate([jnp.broadcast_to(prefix, (b, *prefix.shape[1:])), x], 1)


def _check_size(size: tuple[int, ...], patch: int) -> None:
    if any(side % patch for side in size):
        low = [max(side // patch, 1) * patch for side in size]
        high = [-(-side // patch) * patch for side in size]
        near = " or ".join(dict.fromkeys(f"{h} x {w}" for h, w in (low, high)))
        raise ValueError(
            f"images must have sides that are multiples of {patch}, got {size[0]} x {size[1]}; "
            f"the nearest sizes are {near}"
        )
