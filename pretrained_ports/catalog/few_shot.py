"""Networks of few-shot learning."""

from dataclasses import replace
from functools import partial

from pretrained_ports.conv4 import Conv4
from pretrained_ports.convert import Shapes
from pretrained_ports.entry import Entry
from pretrained_ports.preprocess import Preprocess

_MINI_IMAGENET = Preprocess(size=(84, 84), resize=84)
_OMNIGLOT = Preprocess(size=(28, 28), resize=None, mean=(0.0,), std=(1.0,), scale="minmax")


def _conv4_of(entry: Entry, shapes: Shapes) -> Entry:
    """Channels and width from the first kernel; grey pictures are Omniglot's unless told."""
    *_, channels, width = shapes.get("block1.conv.kernel", (3, 64))
    if channels == 1:
        entry = ENTRIES["conv4-omniglot"]
    elif channels == 3:
        entry = ENTRIES["conv4"]
    return replace(entry, build=partial(entry.build, width=width))


ENTRIES = {
    "conv4": Entry(
        family="Conv-4",
        build=Conv4,
        layer="block4",
        preprocess=_MINI_IMAGENET,
        dialects=("conv4-sequential", "native"),
        release="https://github.com/oscarknagg/few-shot",
        licence="MIT",
        infer=_conv4_of,
    ),
    "conv4-omniglot": Entry(
        family="Conv-4",
        build=partial(Conv4, in_channels=1),
        layer="block4",
        preprocess=_OMNIGLOT,
        dialects=("conv4-sequential", "native"),
        release="https://github.com/oscarknagg/few-shot",
        licence="MIT",
        infer=_conv4_of,
    ),
}
