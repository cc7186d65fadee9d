"""Residual networks: for photographs, for CIFAR, and the small one that ships with the package."""

from dataclasses import replace
from functools import partial

from pretrained_ports.catalog.entry import Entry, Hub
from pretrained_ports.checkpoints.dialects.resnet import HF_RESNET, TORCHVISION
from pretrained_ports.checkpoints.dialects.self_supervised import SELF_SUPERVISED_DIALECTS
from pretrained_ports.models.cifar_resnet import CifarResNet
from pretrained_ports.models.resnet import VARIANTS, ResNet
from pretrained_ports.models.state import Shapes
from pretrained_ports.models.tiny import Tiny
from pretrained_ports.preprocess import Preprocess

_PHOTOGRAPH = Preprocess(size=(224, 224), resize=256)
_BICUBIC = replace(_PHOTOGRAPH, interpolation="bicubic")
_WHOLE = replace(_BICUBIC, resize=235)
_SMALL = Preprocess(size=(176, 176), resize=201)
_TINY = Preprocess(size=(128, 128), resize=128)  # trained on crops of 64: a scene of four
_CIFAR = Preprocess(size=(32, 32), resize=32)


def _cifar_of(entry: Entry, shapes: Shapes) -> Entry:
    """Shortcuts with parameters where the checkpoint has them."""
    if "layer2.0.shortcut.0.kernel" in shapes:
        return replace(entry, build=partial(entry.build, shortcut="B"))
    return entry


def _resnet(
    variant: str,
    hub: Hub | None,
    licence: str,
    preprocess: Preprocess = _PHOTOGRAPH,
    release: str = "",
) -> Entry:
    return Entry(
        family="ResNet",
        build=partial(ResNet, variant),
        layer="layer4",
        preprocess=preprocess,
        dialects=_DIALECTS,
        hub=hub,
        release=release,
        licence=licence,
    )


_DIALECTS = (
    *(dialect.name for dialect in (TORCHVISION, HF_RESNET, *SELF_SUPERVISED_DIALECTS)),
    "native",
)

# Other trainings of the same networks: our name, timm's tag, licence, input, networks.
_RECIPES = (
    (
        *("a1", "a1_in1k", "Apache-2.0", _WHOLE),
        "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d",
    ),
    (
        *("gluon", "gluon_in1k", "Apache-2.0", _BICUBIC),
        "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d",
    ),
    (
        *("tv2", "tv2_in1k", "BSD-3-Clause", _SMALL),
        "resnet50 resnet101 resnet152 wide_resnet50_2 resnext50_32x4d",
    ),
    (
        *("ssl", "fb_ssl_yfcc100m_ft_in1k", "CC-BY-NC-4.0", _PHOTOGRAPH),
        "resnet18 resnet50 resnext50_32x4d",
    ),
    (
        *("swsl", "fb_swsl_ig1b_ft_in1k", "CC-BY-NC-4.0", _PHOTOGRAPH),
        "resnet18 resnet50 resnext50_32x4d",
    ),
)

# ResNet-50 without labels: the authors' own file, its licence, the input it was evaluated on.
_FILES = "https://dl.fbaipublicfiles.com"
_SELF_SUPERVISED = {
    "moco-v1": (
        f"{_FILES}/moco/moco_checkpoints/moco_v1_200ep/moco_v1_200ep_pretrain.pth.tar",
        "CC-BY-NC-4.0",
        _PHOTOGRAPH,
    ),
    "moco-v2": (
        f"{_FILES}/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",
        "CC-BY-NC-4.0",
        _PHOTOGRAPH,
    ),
    "moco-v3": (
        f"{_FILES}/moco-v3/r-50-1000ep/r-50-1000ep.pth.tar",
        "CC-BY-NC-4.0",
        _PHOTOGRAPH,
    ),
    "swav": (f"{_FILES}/deepcluster/swav_800ep_pretrain.pth.tar", "", _PHOTOGRAPH),
    "barlow-twins": (
        f"{_FILES}/barlowtwins/epochs1000_bs2048_lr0.2_lambd0.0051_proj_8192_8192_8192_scale0.024"
        "/resnet50.pth",
        "",
        _PHOTOGRAPH,
    ),
    "dino": (
        f"{_FILES}/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
        "Apache-2.0",
        _BICUBIC,
    ),
    "simclr": (
        "https://pl-bolts-weights.s3.us-east-2.amazonaws.com/simclr/bolts_simclr_imagenet"
        "/simclr_imagenet.ckpt",
        "",
        _PHOTOGRAPH,
    ),
}

ENTRIES = {
    "tiny": Entry(
        family="tiny",
        build=Tiny,
        layer="layer3",
        preprocess=_TINY,
        dialects=("native",),
        embedded="tiny.safetensors",
        licence="Apache-2.0",
    ),
    # The original torchvision weights as timm serves them.
    **{name: _resnet(name, Hub(f"timm/{name}.tv_in1k"), "BSD-3-Clause") for name in VARIANTS},
    **{
        f"{variant}-{name}": _resnet(variant, Hub(f"timm/{variant}.{tag}"), licence, preprocess)
        for name, tag, licence, preprocess, variants in _RECIPES
        for variant in variants.split()
    },
    **{
        f"resnet50-{name}": _resnet("resnet50", None, licence, preprocess, release)
        for name, (release, licence, preprocess) in _SELF_SUPERVISED.items()
    },
    **{
        f"cifar-resnet{depth}": Entry(
            family="CIFAR ResNet",
            build=partial(CifarResNet, depth),
            layer="layer3",
            preprocess=_CIFAR,
            dialects=("akamaster-cifar", "native"),
            release="https://github.com/akamaster/pytorch_resnet_cifar10",
            licence="BSD-2-Clause",
            infer=_cifar_of,
        )
        for depth in (20, 32, 44, 56, 110)
    },
}
