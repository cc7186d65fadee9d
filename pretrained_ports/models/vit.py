"""Vision transformers: ViT, DeiT, DINO, DINOv2, MoCo v3, and the image towers of CLIP and SigLIP.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021). They share one architecture and differ
in tokens, norms, activation and head: the columns of `Variant`.
"""

from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Patches, Stage, as_input, beside
from pretrained_ports.models.network import Network
from pretrained_ports.models.positions import resample
from pretrained_ports.models.transformer import Block, LayerNorm, Mlp, attended, linear
from pretrained_ports.models.vit_variants import Variant


class PatchEmbed(nnx.Module):
    """Images to tokens, [b H W 3] -> [b h w dim]; the convolution is at "patch_embed.proj"."""

    def __init__(self, patch: int, dim: int, bias: bool, **init):
        size = (patch, patch)
        self.proj = Patches(3, dim, size, size, use_bias=bias, **init)

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
        x = self.proj(attended(beside(q, k), k, v).reshape(b, c))
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

    `positions`, one of `vit_variants.PROJECTS`, is whose way positions are fitted to another grid.

    Args:
        variant: A row of `vit_variants.VARIANTS`.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> from pretrained_ports.models.vit_variants import VARIANTS
        >>> def embed(images):
        ...     model = VisionTransformer(VARIANTS["vit-tiny-patch16"], rngs=nnx.Rngs(0))
        ...     return model(images)
        >>> nnx.eval_shape(embed, jnp.zeros((2, 32, 48, 3))).shape
        (2, 192)
    """

    def __init__(self, variant: Variant, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        patch, dim, depth, heads = variant[:4]

        def learned(count: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, count, dim), param_dtype))

        self.patch_embed = PatchEmbed(patch, dim, bias=not variant.norm_pre, **init)
        for name, count in variant.tokens:
            setattr(self, name, learned(count))
        self.pos_embed = learned(variant.positioned + prod(variant.rows_columns))
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
        self.positions = "authors"

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
        how = variant.resampled_by(self.positions)
        x = cells.reshape(b, h * w, c) + resample(rest, variant.rows_columns, (h, w), how)
        if not variant.tokens:
            return x
        prefix = jnp.concatenate([getattr(self, name)[...] for name, _ in variant.tokens], 1)
        prefix = prefix.at[:, : variant.positioned].add(own)
        prefix = jnp.broadcast_to(prefix, (b, *prefix.shape[1:]))
        return jnp.concatenate([beside(prefix, x), x], 1)


def _check_size(size: tuple[int, ...], patch: int) -> None:
    if any(side % patch for side in size):
        low = [max(side // patch, 1) * patch for side in size]
        high = [-(-side // patch) * patch for side in size]
        near = " or ".join(dict.fromkeys(f"{h} x {w}" for h, w in (low, high)))
        raise ValueError(
            f"images must have sides that are multiples of {patch}, got {size[0]} x {size[1]}; "
            f"the nearest sizes are {near}"
        )
