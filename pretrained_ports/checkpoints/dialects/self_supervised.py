"""Residual networks as self-supervised training saves them, with its head and its other networks.

Files that hold the network alone, or the network and a classifier, are torchvision's: the released
ones of Barlow Twins and DINO, for example.
"""

from dataclasses import replace

from pretrained_ports.checkpoints.dialects.resnet import TORCHVISION
from pretrained_ports.checkpoints.dialects.rules import (
    CLASSIFIER,
    COUNTERS,
    Dialect,
    Ignore,
    Rule,
    batch_norm,
    linear,
)

_SLOW = "the slow copy of the network, for training only"
_TRAINING = "for training only"


def under(prefix: str, rules: tuple[Rule, ...] = TORCHVISION.rules) -> tuple[Rule, ...]:
    """The network's rules behind a prefix that its head does not have."""
    return tuple(rule._replace(pattern=prefix + rule.pattern) for rule in rules)


# nn.Sequential of linear layers and ReLU, and the same with a batch norm after every linear layer.
def _mlp(source: str) -> tuple[Rule, ...]:
    return linear(rf"{source}\.(0|2)", r"head.\1")


def mlp_with_norms(source: str) -> tuple[Rule, ...]:
    """Rules for a head of linear layers, each with a batch norm, at a source path."""
    return (
        *linear(rf"{source}\.(0|3|6)", r"head.\1"),
        *batch_norm(rf"{source}\.(1|4|7)", r"head.\1"),
    )


# Version 1 has one linear layer, version 2 an MLP. https://github.com/facebookresearch/moco
MOCO = Dialect(
    "moco",
    rules=TORCHVISION.rules,
    prefix=r"encoder_q\.",
    head=(*linear(r"fc", "head.0"), *_mlp(r"fc")),
    ignore=(
        COUNTERS,
        Ignore(r"encoder_k\..+", _SLOW),
        Ignore(r"queue|queue_ptr", "keys of earlier batches"),
    ),
)

# https://github.com/facebookresearch/moco-v3
MOCO_V3 = Dialect(
    "moco-v3",
    rules=TORCHVISION.rules,
    prefix=r"base_encoder\.",
    head=mlp_with_norms(r"fc"),
    ignore=(
        COUNTERS,
        Ignore(r"momentum_encoder\..+", _SLOW),
        Ignore(r"predictor\..+", _TRAINING),
    ),
)

# https://github.com/facebookresearch/simsiam
SIMSIAM = replace(
    MOCO_V3,
    name="simsiam",
    prefix=r"encoder\.",
    ignore=(COUNTERS, Ignore(r"predictor\..+", _TRAINING)),
    needs=r"encoder\.fc\.1\.running_mean",
)

# The head in place of the classifier, which all of torchvision's names but that one would fit.
# https://github.com/sthalles/SimCLR
SIMCLR = Dialect(
    "simclr",
    rules=TORCHVISION.rules,
    head=_mlp(r"fc"),
    ignore=(COUNTERS,),
    needs=r"fc\.0\.weight",
)

# https://github.com/Spijkervet/SimCLR
SIMCLR_ENCODER = Dialect(
    "simclr-encoder", rules=under(r"encoder\."), head=_mlp(r"projector"), ignore=(COUNTERS,)
)

# https://github.com/Lightning-Universe/lightning-bolts
SIMCLR_BOLTS = Dialect(
    "simclr-bolts",
    rules=under(r"encoder\."),
    head=mlp_with_norms(r"projection\.model"),
    ignore=(
        COUNTERS,
        Ignore(r"encoder\.fc\.(weight|bias)", CLASSIFIER),
        Ignore(r"non_linear_evaluator\..+", "a classifier that watched the training"),
    ),
)

# The network has no name but "net" there, and is in the file twice.
# https://github.com/lucidrains/byol-pytorch
BYOL = Dialect(
    "byol",
    rules=under(r"net\."),
    prefix=r"online_encoder\.",
    head=mlp_with_norms(r"projector"),
    ignore=(
        COUNTERS,
        Ignore(r"net\..+", "the same as online_encoder.net"),
        Ignore(r"online_encoder\.net\.fc\.(weight|bias)", CLASSIFIER),
        Ignore(r"target_encoder\..+", _SLOW),
        Ignore(r"online_predictor\..+", _TRAINING),
    ),
)

# BYOL, SimCLR, SimSiam and more. https://github.com/vturrisi/solo-learn
SOLO_LEARN = Dialect(
    "solo-learn",
    rules=under(r"backbone\."),
    head=(*mlp_with_norms(r"projector"), *linear(r"projector\.2", "head.2")),
    ignore=(
        COUNTERS,
        Ignore(r"classifier\..+", CLASSIFIER),
        Ignore(r"predictor\..+", _TRAINING),
        Ignore(r"momentum_(backbone|projector|classifier)\..+", _SLOW),
    ),
)

# One linear layer where there is no MLP. https://github.com/facebookresearch/swav
SWAV = Dialect(
    "swav",
    rules=TORCHVISION.rules,
    head=(*linear(r"projection_head", "head.0"), *mlp_with_norms(r"projection_head")),
    ignore=(COUNTERS, Ignore(r"prototypes\..+", "the clusters, for training only")),
    needs=r"projection_head\..+",
)

# https://github.com/facebookresearch/barlowtwins
BARLOW_TWINS = Dialect(
    "barlow-twins",
    rules=under(r"backbone\."),
    head=mlp_with_norms(r"projector"),
    ignore=(COUNTERS, Ignore(r"bn\..+", "the normalisation of the training loss")),
    needs=r"bn\.running_mean",
)

# Teacher or student. https://github.com/facebookresearch/dino
DINO_HEAD = linear(r"(head\.mlp\.(?:0|2|4))")
PROTOTYPES = Ignore(r"head\.last_layer\..+", "the prototypes, for training only")
DINO_RESNET = Dialect(
    "dino-resnet",
    rules=under(r"backbone\."),
    head=DINO_HEAD,
    ignore=(COUNTERS, PROTOTYPES),
    needs=r"head\.mlp\.0\.weight",
)

SELF_SUPERVISED_DIALECTS = (
    MOCO,
    MOCO_V3,
    SIMSIAM,
    SIMCLR,
    SIMCLR_ENCODER,
    SIMCLR_BOLTS,
    BYOL,
    SOLO_LEARN,
    SWAV,
    BARLOW_TWINS,
    DINO_RESNET,
)
