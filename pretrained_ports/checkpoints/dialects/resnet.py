"""Residual networks: the names of torchvision and timm, transformers, and CIFAR-10 code."""

from pretrained_ports.checkpoints.dialects.rules import (
    CLASSIFIER,
    COUNTERS,
    Dialect,
    Ignore,
    Rule,
    batch_norm,
    conv,
)

# https://github.com/pytorch/vision, https://github.com/huggingface/pytorch-image-models
TORCHVISION = Dialect(
    "torchvision",
    rules=(
        *conv(r"(conv1)"),
        *batch_norm(r"(bn1)"),
        *conv(r"(layer[1-4]\.\d+\.conv[1-3])"),
        *batch_norm(r"(layer[1-4]\.\d+\.bn[1-3])"),
        *conv(r"(layer[1-4]\.\d+\.downsample\.0)"),
        *batch_norm(r"(layer[1-4]\.\d+\.downsample\.1)"),
    ),
    ignore=(COUNTERS, Ignore(r"fc\.(weight|bias)", CLASSIFIER)),
)


def _hf(source: str, convolution: str, norm: str) -> tuple[Rule, ...]:
    """A convolution and the norm behind it, which have one path there."""
    return (
        *conv(rf"{source}\.convolution", convolution),
        *batch_norm(rf"{source}\.normalization", norm),
    )


# Stages and the layers of a block are counted from 0. A checkpoint does not say where the stride
# of a bottleneck is; released ones have it on the 3x3 convolution ("downsample_in_bottleneck" off).
# https://github.com/huggingface/transformers
HF_RESNET = Dialect(
    "hf-resnet",
    rules=(
        *_hf(r"embedder\.embedder", "conv1", "bn1"),
        *(
            rule
            for stage in range(4)
            for block in [rf"encoder\.stages\.{stage}\.layers\.(\d+)"]
            for ours in [rf"layer{stage + 1}.\1"]
            for rule in (
                *_hf(rf"{block}\.shortcut", f"{ours}.downsample.0", f"{ours}.downsample.1"),
                *_hf(rf"{block}\.layer\.0", f"{ours}.conv1", f"{ours}.bn1"),
                *_hf(rf"{block}\.layer\.1", f"{ours}.conv2", f"{ours}.bn2"),
                *_hf(rf"{block}\.layer\.2", f"{ours}.conv3", f"{ours}.bn3"),
            )
        ),
    ),
    prefix=r"(?:resnet\.)?",
    ignore=(COUNTERS, Ignore(r"classifier\.1\.(weight|bias)", CLASSIFIER)),
)

# https://github.com/akamaster/pytorch_resnet_cifar10
CIFAR = Dialect(
    "akamaster-cifar",
    rules=(
        *conv(r"(conv1)"),
        *batch_norm(r"(bn1)"),
        *conv(r"(layer[1-3]\.\d+\.conv[12])"),
        *batch_norm(r"(layer[1-3]\.\d+\.bn[12])"),
        *conv(r"(layer[1-3]\.\d+\.shortcut\.0)"),  # option B
        *batch_norm(r"(layer[1-3]\.\d+\.shortcut\.1)"),
    ),
    ignore=(COUNTERS, Ignore(r"linear\.(weight|bias)", CLASSIFIER)),
)
