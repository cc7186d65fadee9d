"""Networks of few-shot learning."""

from dataclasses import replace

from pretrained_ports.checkpoints.dialects.rules import (
    CLASSIFIER,
    COUNTERS,
    Dialect,
    Ignore,
    batch_norm,
    conv,
    linear,
)

# nn.Sequential of convolution, batch norm, ReLU and pooling, four times: indices 0 1 4 5 8 9 12 13.
# https://github.com/oscarknagg/few-shot
CONV4_SEQUENTIAL = Dialect(
    "conv4-sequential",
    rules=tuple(
        rule
        for block in range(4)
        for rule in (
            *conv(str(4 * block), f"block{block + 1}.conv"),
            *batch_norm(str(4 * block + 1), f"block{block + 1}.bn"),
        )
    ),
    ignore=(COUNTERS,),
)

# MetaOptNet, RFS, FEAT and DeepEMD share one naming; a network that holds the encoder puts a prefix
# before it. https://github.com/WangYueFt/rfs, https://github.com/kjunelee/MetaOptNet
RESNET12 = Dialect(
    "resnet12",
    rules=(
        *conv(r"(layer[1-4]\.0\.conv[1-3])"),
        *batch_norm(r"(layer[1-4]\.0\.bn[1-3])"),
        *conv(r"(layer[1-4]\.0\.downsample\.0)"),
        *batch_norm(r"(layer[1-4]\.0\.downsample\.1)"),
    ),
    ignore=(COUNTERS, Ignore(r"classifier\.(weight|bias)", CLASSIFIER)),
)

# https://github.com/Sha-Lab/FEAT, https://github.com/icoz69/DeepEMD
RESNET12_ENCODER = replace(
    RESNET12,
    name="resnet12-encoder",
    prefix=r"encoder\.",
    ignore=(
        COUNTERS,
        Ignore(r"fc\.(weight|bias)", CLASSIFIER),
        Ignore(r"slf_attn\..+", "adapts the prototypes of a task; the embedding enters it"),
    ),
)

# Stages that are blocks, not sequences of one. https://github.com/yinboc/few-shot-meta-baseline
META_BASELINE = Dialect(
    "meta-baseline",
    rules=(
        *conv(r"(layer[1-4])\.(conv[1-3])", r"\1.0.\2"),
        *batch_norm(r"(layer[1-4])\.(bn[1-3])", r"\1.0.\2"),
        *conv(r"(layer[1-4])\.(downsample\.0)", r"\1.0.\2"),
        *batch_norm(r"(layer[1-4])\.(downsample\.1)", r"\1.0.\2"),
    ),
    ignore=(
        COUNTERS,
        Ignore(r"classifier\..+", CLASSIFIER),
        Ignore(r"temp", "the temperature of the logits"),
    ),
    prefix=r"encoder\.",
)

# https://github.com/nupurkmr9/S2M2_fewshot
S2M2 = Dialect(
    "s2m2",
    rules=(
        *conv(r"(conv1)"),
        *batch_norm(r"(bn1)"),
        *conv(r"(block[1-3]\.layer\.\d+\.(?:conv[12]|convShortcut))"),
        *batch_norm(r"(block[1-3]\.layer\.\d+\.bn[12])"),
    ),
    ignore=(COUNTERS, Ignore(r"linear\..+", CLASSIFIER)),
)

# Both files of a relation network: the encoder, and the head that compares.
# https://github.com/floodsung/LearningToCompare_FSL
RELATION_NETWORK = Dialect(
    "relation-network",
    rules=(
        *conv(r"(layer[1-4]\.0)"),
        *batch_norm(r"(layer[1-4]\.1)"),
        *linear(r"(fc[12])"),
    ),
    ignore=(COUNTERS,),
)
