"""Residual networks: the names of torchvision and timm, and of the usual CIFAR-10 code."""

from pretrained_ports.dialects.rules import COUNTERS, Dialect, Ignore, batch_norm, conv

_HEAD = "the classifier; the embedding is what enters it"

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
    ignore=(COUNTERS, Ignore(r"fc\.(weight|bias)", _HEAD)),
)

# https://github.com/akamaster/pytorch_resnet_cifar10
CIFAR = Dialect(
    "akamaster-cifar",
    rules=(
        *conv(r"(conv1)"),
        *batch_norm(r"(bn1)"),
        *conv(r"(layer[1-3]\.\d+\.conv[12])"),
        *batch_norm(r"(layer[1-3]\.\d+\.bn[12])"),
    ),
    ignore=(COUNTERS, Ignore(r"linear\.(weight|bias)", _HEAD)),
)
