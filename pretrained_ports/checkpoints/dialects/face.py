"""Face networks, as insightface's arcface_torch names them.

https://github.com/deepinsight/insightface
"""

from pretrained_ports.checkpoints.dialects.rules import (
    COUNTERS,
    Dialect,
    Rule,
    batch_norm,
    conv,
    linear,
)

IRESNET = Dialect(
    "insightface-iresnet",
    rules=(
        *conv(r"(conv1)"),
        *batch_norm(r"(bn[12])"),
        Rule(r"(.*prelu)\.weight", r"\1.slope"),
        *conv(r"(layer[1-4]\.\d+\.conv[12])"),
        *batch_norm(r"(layer[1-4]\.\d+\.bn[1-3])"),
        *conv(r"(layer[1-4]\.\d+\.downsample\.0)"),
        *batch_norm(r"(layer[1-4]\.\d+\.downsample\.1)"),
        *linear(r"(fc)"),
        *batch_norm(r"(features)"),
    ),
    ignore=(COUNTERS,),
)

# Everything is in an nn.Sequential called "layers": a convolution at 0, its norm at 1, PReLU at 2.
MOBILEFACENET = Dialect(
    "insightface-mobilefacenet",
    rules=(
        *linear(r"(features\.layers\.2)"),
        *batch_norm(r"(features\.layers\.3)"),
        *conv(r"((?:layers|conv_sep|features)\..*\b0)"),
        *batch_norm(r"((?:layers|conv_sep|features)\..*\b1)"),
        Rule(r"((?:layers|conv_sep)\..*\b2)\.weight", r"\1.slope"),
    ),
    ignore=(COUNTERS,),
)
