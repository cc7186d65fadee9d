"""MobileNet-v3 large and small, by where and how they were trained."""

from functools import partial
from typing import Any

from pretrained_ports.catalog.entry import Entry, Hub
from pretrained_ports.checkpoints.dialects.efficientnet import torchvision_mobilenetv3
from pretrained_ports.models.inverted_bottleneck import Origin
from pretrained_ports.models.mobilenetv3 import STAGES, MobileNetV3
from pretrained_ports.preprocess import Preprocess

_HALF: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
_UNIT: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
_CUBIC: dict[str, Any] = {"interpolation": "bicubic"}


def _entry(
    variant: str,
    origin: Origin,
    tag: str = "",
    *,
    width: float = 1.0,
    resize: int = 256,
    release: str = "",
    **options: Any,
) -> Entry:
    prefix = "tf_" if origin == "tensorflow" else ""
    own = torchvision_mobilenetv3(variant) if origin == "torchvision" else "timm-efficientnet"
    repository = f"timm/{prefix}mobilenetv3_{variant}_{round(100 * width):03}.{tag}"
    return Entry(
        family="MobileNet-v3",
        build=partial(MobileNetV3, variant, width, origin),
        layer=f"blocks.{len(STAGES[variant])}",
        preprocess=Preprocess((224, 224), resize, **options),
        dialects=(own, "native"),
        hub=Hub(repository) if tag else None,
        release=release and f"https://download.pytorch.org/models/{release}.pth",
        licence="BSD-3-Clause" if origin == "torchvision" else "Apache-2.0",
    )


ENTRIES = {
    "mobilenetv3-large": _entry("large", "tensorflow", "in1k", **_HALF),
    "mobilenetv3-small": _entry("small", "tensorflow", "in1k", **_HALF),
    "mobilenetv3-large-075": _entry("large", "tensorflow", "in1k", width=0.75, **_HALF),
    "mobilenetv3-small-075": _entry("small", "tensorflow", "in1k", width=0.75, **_HALF),
    # Other trainings: timm's own, of several kinds, of a larger ImageNet before, and torchvision's.
    "mobilenetv3-large-ra": _entry("large", "pytorch", "ra_in1k", **_CUBIC),
    "mobilenetv3-large-ra4": _entry(
        "large", "pytorch", "ra4_e3600_r224_in1k", resize=235, **_CUBIC, **_HALF
    ),
    "mobilenetv3-small-lamb": _entry("small", "pytorch", "lamb_in1k", **_CUBIC),
    "mobilenetv3-small-075-lamb": _entry("small", "pytorch", "lamb_in1k", width=0.75, **_CUBIC),
    "mobilenetv3-large-miil": _entry("large", "pytorch", "miil_in21k_ft_in1k", **_UNIT),
    "mobilenetv3-large-miil-in21k": _entry("large", "pytorch", "miil_in21k", **_UNIT),
    "mobilenetv3-large-tv": _entry("large", "torchvision", release="mobilenet_v3_large-8738ca79"),
    "mobilenetv3-large-tv2": _entry(
        "large", "torchvision", resize=232, release="mobilenet_v3_large-5c1a4163"
    ),
    "mobilenetv3-small-tv": _entry("small", "torchvision", release="mobilenet_v3_small-047dcff4"),
}
