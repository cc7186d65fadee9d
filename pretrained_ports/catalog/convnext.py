"""ConvNeXt tiny, small and base, by how they were trained."""

from dataclasses import replace
from functools import partial
from typing import Any

from pretrained_ports.catalog.entry import Entry, Hub
from pretrained_ports.models.convnext import VARIANTS, ConvNeXt
from pretrained_ports.preprocess import Preprocess


def _entry(variant: str, tag: str, size: int = 224, resize: int | None = 256) -> Entry:
    return Entry(
        family="ConvNeXt",
        build=partial(ConvNeXt, variant),
        layer="head.norm",
        preprocess=Preprocess((size, size), resize, interpolation="bicubic"),
        dialects=(
            "timm-convnext",
            "facebook-convnext",
            "torchvision-convnext",
            "hf-convnext",
            "native",
        ),
        hub=Hub(f"timm/convnext_{variant}.{tag}"),
        licence="Apache-2.0",
    )


def _torchvision(variant: str, file: str, resize: int) -> Entry:
    return replace(
        _entry(variant, ""),
        preprocess=Preprocess((224, 224), resize),
        hub=None,
        release=f"https://download.pytorch.org/models/convnext_{variant}-{file}.pth",
        licence="BSD-3-Clause",
    )


def _of_each(name: str, *arguments: Any, **changes: Any) -> dict[str, Entry]:
    """A row for every variant, whose own name stands for "{}" in `name`."""
    return {name.format(v): replace(_entry(v, *arguments), **changes) for v in VARIANTS}


ENTRIES = {
    **_of_each("convnext-{}", "fb_in1k"),
    # On a larger ImageNet; then on the usual one, also with larger pictures, stretched.
    **_of_each("convnext-{}-in22k", "fb_in22k"),
    **_of_each("convnext-{}-in22k-ft", "fb_in22k_ft_in1k"),
    **_of_each("convnext-{}-384", "fb_in22k_ft_in1k_384", 384, None),
    "convnext-tiny-in12k-ft": _entry("tiny", "in12k_ft_in1k", resize=235),
    "convnext-small-in12k-ft": _entry("small", "in12k_ft_in1k", resize=235),
    # Without labels, taught by a larger network.
    **_of_each("convnext-{}-dinov3", "dinov3_lvd1689m", 224, 224, licence="DINOv3 License"),
    "convnext-tiny-tv": _torchvision("tiny", "983f1562", 236),
    "convnext-small-tv": _torchvision("small", "0c510722", 230),
    "convnext-base-tv": _torchvision("base", "6075fbad", 232),
}
