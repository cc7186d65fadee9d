"""The columns in which vision transformers differ, and a row for each of them by name."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax import Array

from pretrained_ports.models.positions import Resampling
from pretrained_ports.models.transformer import gelu, quick_gelu

gelu_tanh = partial(jax.nn.gelu, approximate=True)


class Variant(NamedTuple):
    """One row of `VARIANTS`.

    Attributes:
        patch: Pixels on a side of a patch.
        dim: Channels.
        depth: Blocks.
        heads: Attention heads.
        grid: Patches on a side of the square images that the positions were trained on, or their
            rows and columns.
        hidden: Channels inside the MLP; 4 dim where it is 0.
        tokens: Learned tokens before the patches, [1 k dim] each, and how many of each.
        positioned: How many of those tokens have a position of their own, from the first.
        resampling: How its authors fit positions to another grid.
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
    grid: int | tuple[int, int]
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
    def rows_columns(self) -> tuple[int, int]:
        """The grid of the positions."""
        return (self.grid, self.grid) if isinstance(self.grid, int) else self.grid

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        return sum(count for _, count in self.tokens)

    def resampled_by(self, project: str) -> Resampling:
        """How one of `PROJECTS` fits its positions to another grid."""
        if project == "authors":
            return self.resampling
        # transformers passes interpolate the size; antialiased for DINOv2 with registers alone
        return Resampling(antialias=project == "timm" or "reg_token" in dict(self.tokens))


# Whose code says how positions are fitted to another grid: a model's authors' (a column of the
# table), or that of a project that serves the same weights and resamples in a way of its own.
PROJECTS = ("authors", "timm", "transformers")


# name -> dim, depth, heads
_SIZES = {
    "mini": (128, 4, 4),  # ours: examples/train_self_supervised.py trains it
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
    "giant": (1536, 40, 24),
}

# facebookresearch/dino and dinov2 give interpolate the factor (patches + 0.1) / trained patches;
# dinov2 with registers the size, antialiased
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
    "vit-huge-patch14": _variant("huge", 14),
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
