"""Residual networks: for photographs, for CIFAR, and the small one that ships with the package."""

from functools import partial

from pretrained_ports.cifar_resnet import CifarResNet
from pretrained_ports.entry import Entry, Hub
from pretrained_ports.preprocess import Preprocess
from pretrained_ports.resnet import VARIANTS, ResNet
from pretrained_ports.tiny import Tiny

_PHOTOGRAPH = Preprocess(size=(224, 224), resize=256)
_TINY = Preprocess(size=(128, 128), resize=128)  # trained on crops of 64: a scene of four
_CIFAR = Preprocess(size=(32, 32), resize=32)

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
    **{
        name: Entry(
            family="ResNet",
            build=partial(ResNet, name),
            layer="layer4",
            preprocess=_PHOTOGRAPH,
            dialects=("torchvision", "native"),
            hub=Hub(f"timm/{name}.tv_in1k"),
            licence="BSD-3-Clause",
        )
        for name in VARIANTS
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
        )
        for depth in (20, 32, 44, 56, 110)
    },
}
