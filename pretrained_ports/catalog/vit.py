"""Vision transformers; hub files and preprocessing as timm lists them."""

from dataclasses import replace
from functools import partial
from math import isqrt, prod

from pretrained_ports.catalog.entry import Entry, Hub
from pretrained_ports.models.state import Shapes
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS, Variant
from pretrained_ports.preprocess import Preprocess

_IMAGENET = {"interpolation": "bicubic"}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic"}
_OPENAI = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
}


def _fitted(entry: Entry, shapes: Shapes) -> Entry:
    """The grid of the positions that a file has, which tokens have one, and CLIP's bias if any.

    The row's own grid, if that has as many, else a square one.
    """
    variant: Variant = entry.build.args[0]
    shape = shapes.get("pos_embed", ())
    if len(shape) != 3 or not shape[1]:
        return entry
    side = isqrt(shape[1])
    for grid in (variant.grid, side):
        positioned = shape[1] - prod(variant._replace(grid=grid).rows_columns)
        if 0 <= positioned <= variant.prefix:
            break
    else:  # no square grid; the error will show both shapes
        return entry
    if grid != variant.grid:
        entry = with_grid(entry, (side, side))
        variant = variant._replace(grid=grid)
    fitted = variant._replace(positioned=positioned, output_bias="head.bias" in shapes)
    same = fitted == entry.build.args[0]
    return entry if same else replace(entry, build=partial(VisionTransformer, fitted))


def with_grid(entry: Entry, grid: tuple[int, int]) -> Entry:
    """The row for positions on another grid: trained at another size, as a rule without a margin.

    ValueError if it is no transformer with positions, or the grid is none.
    """
    if entry.infer is not _fitted:
        raise ValueError("has no positions on a grid of patches")
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"needs rows and columns of at least 1, got {grid}")
    variant: Variant = entry.build.args[0]
    if grid == variant.rows_columns:
        return entry
    size = grid[0] * variant.patch, grid[1] * variant.patch
    resize = None if entry.preprocess.resize is None else max(size)
    shape = grid[0] if grid[0] == grid[1] else grid
    return replace(
        entry,
        build=partial(VisionTransformer, variant._replace(grid=shape)),
        preprocess=replace(entry.preprocess, size=size, resize=resize),
    )


def _entry(
    family: str,
    variant: str,
    dialects: tuple[str, ...],
    hub: str = "",
    file: str = "model.safetensors",
    size: int = 224,
    crop: float | None = 0.9,
    colours: dict = _IMAGENET,
    release: str = "",
    licence: str = "Apache-2.0",
) -> Entry:
    """A row; `crop` is the share of the resized picture's side that is kept, None stretches."""
    design = VARIANTS[variant]
    design = design._replace(grid=size // design.patch)
    # What attention reads last of the patches. A token in front of a norm has no share of its own
    # in what comes out: there gradient times activation is 0.
    layer = "norm" if design.pool == "attention" else f"blocks.{design.depth - 1}.norm1"
    return Entry(
        family=family,
        build=partial(VisionTransformer, design),
        layer=layer,
        tokens=(design.prefix, None),
        preprocess=Preprocess((size, size), resize=int(size / crop) if crop else None, **colours),
        dialects=(*dialects, "native"),
        hub=Hub(f"timm/{hub}", file) if hub else None,
        release=release,
        licence=licence if hub or release else "",
        infer=_fitted,
    )


def _torchvision(variant: str, file: str, size: int, resize: int) -> Entry:
    swag = "swag" in file
    return _entry(
        "ViT",
        f"vit-{variant}",
        ("torchvision-vit",),
        size=size,
        crop=size / resize,
        colours=_IMAGENET if swag else {},
        release=f"https://download.pytorch.org/models/{file}.pth",
        licence="CC-BY-NC-4.0" if swag else "BSD-3-Clause",
    )


_vit = partial(_entry, "ViT", dialects=("timm-vit", "hf-vit"), colours=_HALF)
_deit = partial(_entry, "DeiT", dialects=("timm-vit", "hf-vit"))
_dino = partial(_entry, "DINO", dialects=("timm-vit", "dino-vit", "hf-vit"))
_dinov2 = partial(_entry, "DINOv2", dialects=("timm-vit", "hf-dinov2"), size=518, crop=1.0)
# These two as OpenCLIP and transformers prepare pictures; timm lists a margin for some of them.
_clip = partial(
    _entry,
    "CLIP",
    dialects=("openai-clip", "timm-clip", "hf-clip"),
    crop=1.0,
    colours=_OPENAI,
    licence="MIT",
)
_siglip = partial(_entry, "SigLIP", dialects=("timm-siglip", "hf-siglip"), crop=None, colours=_HALF)

# What the name adds, size of the pictures, timm's name of the training: the variants that have it.
_VIT = {
    ("", 224, "augreg_in21k_ft_in1k"): (
        *("tiny-patch16", "small-patch16", "small-patch32", "large-patch16"),
        *("base-patch8", "base-patch16", "base-patch32"),
    ),
    ("-in21k", 224, "augreg_in21k"): (
        *("tiny-patch16", "small-patch16", "small-patch32", "large-patch16"),
        *("base-patch8", "base-patch16", "base-patch32"),
    ),
    ("-in21k", 224, "orig_in21k"): ("large-patch32",),
    ("-in1k", 224, "augreg_in1k"): ("small-patch16", "base-patch16", "base-patch32"),
    ("-384", 384, "augreg_in21k_ft_in1k"): (
        *("tiny-patch16", "small-patch16", "small-patch32", "large-patch16"),
        *("base-patch16", "base-patch32"),
    ),
    ("-384", 384, "orig_in21k_ft_in1k"): ("large-patch32",),
}

# torchvision's weights: the variant, what the name adds, the file, the size of pictures, and what
# their shorter side is before that. SWAG's saw other data, and have another licence.
_TORCHVISION = (
    ("base-patch16", "", "vit_b_16-c867db91", 224, 256),
    ("base-patch32", "", "vit_b_32-d86f8d99", 224, 256),
    ("large-patch16", "", "vit_l_16-852ce7e3", 224, 242),
    ("large-patch32", "", "vit_l_32-c7638314", 224, 256),
    ("base-patch16", "-swag", "vit_b_16_swag-9ac1b537", 384, 384),
    ("large-patch16", "-swag", "vit_l_16_swag-4f3808c9", 512, 512),
    ("base-patch16", "-swag-linear", "vit_b_16_lc_swag-4e70ced5", 224, 224),
    ("large-patch16", "-swag-linear", "vit_l_16_lc_swag-4d563306", 224, 224),
    ("huge-patch14", "-swag", "vit_h_14_swag-80465313", 518, 518),
    ("huge-patch14", "-swag-linear", "vit_h_14_lc_swag-c1eb923e", 224, 224),
)

# Variant, what the name adds, timm's name, colours. These were trained with the exact GELU,
# OpenAI's own with the quick one.
_OTHER_CLIP = (
    ("b32", "laion2b", "base_patch32_clip_224.laion2b", _OPENAI),
    ("b16", "laion2b", "base_patch16_clip_224.laion2b", _OPENAI),
    ("l14", "laion2b", "large_patch14_clip_224.laion2b", _HALF),
    ("b32", "datacomp", "base_patch32_clip_224.datacompxl", _OPENAI),
    ("b16", "datacomp", "base_patch16_clip_224.datacompxl", _OPENAI),
    ("l14", "datacomp", "large_patch14_clip_224.datacompxl", _OPENAI),
)

# Both towers in one file.
_openai = partial(_clip, file="open_clip_model.safetensors")

ENTRIES = {
    "vit-mini-patch8": _entry("ViT", "vit-mini-patch8", (), size=64, crop=1.0),
    # every size and patch; those with weights are replaced below
    **{
        f"vit-{size}-patch{patch}": _vit(f"vit-{size}-patch{patch}")
        for size in ("tiny", "small", "base", "large")
        for patch in (8, 14, 16, 32)
    },
    **{
        f"vit-{variant}{suffix}": _vit(
            f"vit-{variant}",
            hub=f"vit_{variant.replace('-', '_')}_{size}.{training}",
            size=size,
            crop=0.9 if size == 224 else 1.0,
        )
        for (suffix, size, training), variants in _VIT.items()
        for variant in variants
    },
    **{
        f"vit-{variant}-tv{suffix}": _torchvision(variant, file, size, resize)
        for variant, suffix, file, size, resize in _TORCHVISION
    },
    **{
        f"deit-{size}-patch16{suffix}": _deit(
            f"deit-{size}-patch16{suffix}",
            hub=f"deit_{size}{suffix.replace('-', '_')}_patch16_224.fb_in1k",
        )
        for size in ("tiny", "small", "base")
        for suffix in ("", "-distilled")
    },
    **{
        f"deit-base-patch16{suffix}-384": _deit(
            f"deit-base-patch16{suffix}",
            hub=f"deit_base{suffix.replace('-', '_')}_patch16_384.fb_in1k",
            size=384,
            crop=1.0,
        )
        for suffix in ("", "-distilled")
    },
    **{
        f"dino-{size}-patch{patch}": _dino(
            f"dino-{size}-patch{patch}", hub=f"vit_{size}_patch{patch}_224.dino"
        )
        for size in ("small", "base")
        for patch in (8, 16)
    },
    **{
        f"dinov2-{size}{suffix}": _dinov2(
            f"dinov2-{size}{suffix}",
            hub=f"vit_{size}_patch14{suffix.replace('-', '_')}_dinov2.lvd142m",
        )
        for size in ("small", "base", "large", "giant")
        for suffix in ("", "-reg4")
    },
    **{
        f"vit-{size}-patch16-moco-v3": _entry(
            "MoCo v3",
            f"vit-{size}-patch16-moco-v3",
            ("moco-v3-vit", "timm-vit"),
            crop=224 / 256,
            colours={},
            release=f"https://dl.fbaipublicfiles.com/moco-v3/vit-{size[0]}-300ep/"
            f"vit-{size[0]}-300ep.pth.tar",
            licence="CC-BY-NC-4.0",
        )
        for size in ("small", "base")
    },
    "clip-vit-b32": _openai("clip-vit-b32", hub="vit_base_patch32_clip_224.openai"),
    "clip-vit-b16": _openai("clip-vit-b16", hub="vit_base_patch16_clip_224.openai"),
    "clip-vit-l14": _openai("clip-vit-l14", hub="vit_large_patch14_clip_224.openai"),
    "clip-vit-l14-336": _openai("clip-vit-l14", hub="vit_large_patch14_clip_336.openai", size=336),
    **{
        f"clip-vit-{size}-{data}": _clip(f"clip-vit-{size}-gelu", hub=f"vit_{hub}", colours=colours)
        for size, data, hub, colours in _OTHER_CLIP
    },
    **{
        f"siglip{version}-base-patch16{'' if size == 224 else f'-{size}'}": _siglip(
            "siglip-base-patch16", hub=f"vit_base_patch16_siglip_{size}.{data}", size=size
        )
        for version, data in (("", "webli"), ("2", "v2_webli"))
        for size in (224, 256, 384, 512)
    },
}
