"""EfficientNet and MobileNet-v3: the names of timm, efficientnet_pytorch and torchvision."""

from collections.abc import Iterator

import numpy as np

from pretrained_ports.checkpoints.dialects.rules import (
    CLASSIFIER,
    COUNTERS,
    Dialect,
    Ignore,
    Rule,
    batch_norm,
    conv,
    oi_to_io,
)
from pretrained_ports.models.efficientnet import VARIANTS, depths
from pretrained_ports.models.mobilenetv3 import STAGES

# https://github.com/huggingface/pytorch-image-models
TIMM_EFFICIENTNET = Dialect(
    "timm-efficientnet",
    rules=(
        *conv(r"(conv_stem|conv_head)"),
        *batch_norm(r"(bn[12])"),
        *conv(r"(blocks\.\d+\.\d+\.conv(?:_(?:dw|pw|pwl))?)"),
        *conv(r"(blocks\.\d+\.\d+\.se\.conv_(?:reduce|expand))"),
        *batch_norm(r"(blocks\.\d+\.\d+\.bn[123])"),
    ),
    ignore=(COUNTERS, Ignore(r"classifier\.(weight|bias)", CLASSIFIER)),
    needs=r"blocks\.0\.0\.conv_dw\.weight",
)


def _block(source: str, target: str, expanded: bool) -> tuple[Rule, ...]:
    """The layers of one block; its norms are counted from _bn0, which only an expansion has."""
    first = 0 if expanded else 1
    last = "conv_pwl" if expanded else "conv_pw"
    return (
        *(conv(rf"{source}\._expand_conv", f"{target}.conv_pw") if expanded else ()),
        *conv(rf"{source}\._depthwise_conv", f"{target}.conv_dw"),
        *conv(rf"{source}\._se_(reduce|expand)", rf"{target}.se.conv_\1"),
        *conv(rf"{source}\._project_conv", f"{target}.{last}"),
        *(
            rule
            for n in range(first, 3)
            for rule in batch_norm(rf"{source}\._bn{n}", f"{target}.bn{n - first + 1}")
        ),
    )


def efficientnet_pytorch(variant: str) -> str:
    """The name of the dialect that counts a variant's blocks through, from 0.

    Examples:
        >>> efficientnet_pytorch("lite0")
        'efficientnet-pytorch-16'
    """
    return f"efficientnet-pytorch-{sum(depths(variant))}"


def _counted(variant: str) -> Dialect:
    places = [(stage, i) for stage, blocks in enumerate(depths(variant)) for i in range(blocks)]
    return Dialect(
        efficientnet_pytorch(variant),
        rules=(
            *conv(r"_(conv_stem|conv_head)"),
            *batch_norm("_bn0", "bn1"),
            *batch_norm("_bn1", "bn2"),
            *(
                rule
                for n, (stage, i) in enumerate(places)
                for rule in _block(rf"_blocks\.{n}", f"blocks.{stage}.{i}", expanded=stage > 0)
            ),
        ),
        ignore=(COUNTERS, Ignore(r"_fc\.(weight|bias)", CLASSIFIER)),
        needs=rf"_blocks\.{len(places) - 1}\._project_conv\.weight",
    )


# https://github.com/lukemelas/EfficientNet-PyTorch; variants of one depth share a table.
EFFICIENTNET_PYTORCH = {
    dialect.name: dialect for dialect in (_counted(variant) for variant in VARIANTS)
}


def torchvision_mobilenetv3(variant: str) -> str:
    """The name of the dialect that counts the blocks of "large" or "small" through, from 1.

    Examples:
        >>> torchvision_mobilenetv3("small")
        'torchvision-mobilenetv3-small'
    """
    return f"torchvision-mobilenetv3-{variant}"


def _normed(source: str, target: str, convolution: str, norm: str) -> tuple[Rule, ...]:
    """A convolution and its norm, which lie at 0 and 1 there."""
    return (
        *conv(rf"{source}\.0", f"{target}{convolution}"),
        *batch_norm(rf"{source}\.1", f"{target}{norm}"),
    )


def _features(variant: str) -> Iterator[Rule]:
    """The blocks of a variant; the layers of one are counted from 0, those that it has."""
    places = [
        (f"blocks.{stage}.{i}.", expansion, row.gated)
        for stage, row in enumerate(STAGES[variant])
        for i, expansion in enumerate(row.expansions)
    ]
    for n, (target, expansion, gated) in enumerate(places, 1):
        layers = [("conv_dw", "bn1"), ("se", ""), ("conv_pw", "bn2")]
        if expansion > 1:
            layers = [("conv_pw", "bn1"), ("conv_dw", "bn2"), ("se", ""), ("conv_pwl", "bn3")]
        if not gated:
            layers.remove(("se", ""))
        for place, (layer, norm) in enumerate(layers):
            source = rf"features\.{n}\.block\.{place}"
            if norm:
                yield from _normed(source, target, layer, norm)
            else:
                yield from conv(rf"{source}\.fc1", f"{target}se.conv_reduce")
                yield from conv(rf"{source}\.fc2", f"{target}se.conv_expand")
    yield from _normed(
        rf"features\.{len(places) + 1}", f"blocks.{len(STAGES[variant])}.0.", "conv", "bn1"
    )


def _as_conv(kernel: np.ndarray) -> np.ndarray:
    """[outputs inputs] -> [1 1 inputs outputs]."""
    return oi_to_io(kernel)[None, None]


# https://github.com/pytorch/vision
TORCHVISION_MOBILENETV3 = tuple(
    Dialect(
        torchvision_mobilenetv3(variant),
        rules=(
            *_normed(r"features\.0", "", "conv_stem", "bn1"),
            *_features(variant),
            Rule(r"classifier\.0\.weight", "conv_head.kernel", _as_conv),
            Rule(r"classifier\.0\.bias", "conv_head.bias"),
        ),
        ignore=(COUNTERS, Ignore(r"classifier\.3\.(weight|bias)", CLASSIFIER)),
    )
    for variant in STAGES
)
