"""Networks of few-shot learning."""

from dataclasses import replace
from functools import partial

from pretrained_ports.catalog.entry import Entry
from pretrained_ports.models.conv4 import Conv4
from pretrained_ports.models.relation_net import RelationNet
from pretrained_ports.models.resnet12 import ResNet12
from pretrained_ports.models.state import Shapes
from pretrained_ports.models.wide_resnet import WideResNet
from pretrained_ports.preprocess import Preprocess

_MINI_IMAGENET = Preprocess(size=(84, 84), resize=84)
_OMNIGLOT = Preprocess(size=(28, 28), resize=None, mean=(0.0,), std=(1.0,), scale="minmax")
# Ink is 1 on paper of 0, so that a convolution's padding is paper.
_INK = Preprocess(size=(48, 48), resize=None, mean=(1.0,), std=(-1.0,), scale="minmax")
# Grey levels over miniImageNet, of RFS, MetaOptNet and FEAT. DeepEMD, whose weights have the same
# names, takes off (125.3, 123.0, 113.9) / 255 and divides by (63.0, 62.1, 66.7) / 255.
_LEVELS = ((120.39586422, 115.59361427, 104.54012653), (70.68188272, 68.27635443, 72.54505529))
_MEAN, _STD = (tuple(level / 255 for level in levels) for levels in _LEVELS)
_RESNET12 = Preprocess(size=(84, 84), resize=92, mean=_MEAN, std=_STD)
_META_BASELINE = Preprocess(size=(80, 80), resize=80)
_WIDE = Preprocess(size=(80, 80), resize=92)
_RELATION = Preprocess(size=(84, 84), resize=84, mean=(0.92206,) * 3, std=(0.08426,) * 3)

_RESNET12_NAMES = ("resnet12", "resnet12-encoder", "meta-baseline", "native")


def _conv4_of(entry: Entry, shapes: Shapes) -> Entry:
    """Channels and width from the first kernel; grey pictures are Omniglot's unless told."""
    shape = shapes.get("block1.conv.kernel", ())
    if len(shape) != 4:
        return entry
    *_, channels, width = shape
    if channels == 1:
        entry = ENTRIES["conv4-omniglot"]
    elif channels == 3:
        entry = ENTRIES["conv4"]
    return replace(entry, build=partial(entry.build, width=width))


_CONV4 = Entry(
    family="Conv-4",
    build=Conv4,
    layer="block4",
    preprocess=_MINI_IMAGENET,
    dialects=("conv4-sequential", "native"),
    release="https://github.com/oscarknagg/few-shot",
    licence="MIT",
    infer=_conv4_of,
)

ENTRIES = {
    "conv4": _CONV4,
    "conv4-omniglot": replace(_CONV4, build=partial(Conv4, in_channels=1), preprocess=_OMNIGLOT),
    # examples/train_few_shot.py trains it
    "conv4-omniglot-pooled": Entry(
        family="Conv-4",
        build=partial(Conv4, in_channels=1, head="pool"),
        layer="block4",
        preprocess=_INK,
        dialects=("native",),
    ),
    "resnet12": Entry(
        family="ResNet-12",
        build=partial(ResNet12, "resnet12"),
        layer="layer4",
        preprocess=_RESNET12,
        dialects=_RESNET12_NAMES,
        release="https://github.com/Sha-Lab/FEAT",
        licence="MIT",
    ),
    "resnet12-512": Entry(
        family="ResNet-12",
        build=partial(ResNet12, "resnet12-512"),
        layer="layer4",
        preprocess=_META_BASELINE,
        dialects=_RESNET12_NAMES,
        release="https://github.com/yinboc/few-shot-meta-baseline",
        licence="MIT",
    ),
    "wrn-28-10": Entry(
        family="WRN",
        build=partial(WideResNet, "wrn-28-10"),
        layer="relu",
        preprocess=_WIDE,
        dialects=("s2m2", "native"),
        release="https://github.com/nupurkmr9/S2M2_fewshot",
        licence="CC-BY-NC-SA-4.0",
    ),
    "relationnet": Entry(
        family="RelationNet",
        build=RelationNet,
        layer="layer4",
        preprocess=_RELATION,
        dialects=("relation-network", "native"),
        release="https://github.com/floodsung/LearningToCompare_FSL",
        licence="MIT",
    ),
}
