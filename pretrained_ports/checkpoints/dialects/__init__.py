"""One declarative table per source of checkpoints.

A new source is a new `Dialect`: rules from its keys to module paths, and the keys it may ignore. A
table knows the names inside the network only; wrappers around it are taken off when a file is read.
"""

from pretrained_ports.checkpoints.dialects.clip_text import HF_CLIP_TEXT, OPENAI_CLIP_TEXT
from pretrained_ports.checkpoints.dialects.convnext import CONVNEXT_DIALECTS
from pretrained_ports.checkpoints.dialects.efficientnet import (
    EFFICIENTNET_PYTORCH,
    TIMM_EFFICIENTNET,
    TORCHVISION_MOBILENETV3,
)
from pretrained_ports.checkpoints.dialects.face import IRESNET, MOBILEFACENET
from pretrained_ports.checkpoints.dialects.few_shot import (
    CONV4_SEQUENTIAL,
    META_BASELINE,
    RELATION_NETWORK,
    RESNET12,
    RESNET12_ENCODER,
    S2M2,
)
from pretrained_ports.checkpoints.dialects.resnet import CIFAR, HF_RESNET, TORCHVISION
from pretrained_ports.checkpoints.dialects.rules import TEXT_TOWER, Dialect, Ignore, Rule
from pretrained_ports.checkpoints.dialects.self_supervised import SELF_SUPERVISED_DIALECTS
from pretrained_ports.checkpoints.dialects.vit import VIT_DIALECTS

# What `write` writes: module paths as keys. The layers of a projection head have numbers.
_IN_HEAD = r"head\.(?:mlp\.)?\d{1,2}\..+"
NATIVE = Dialect(
    "native",
    rules=(Rule(rf"(?!{_IN_HEAD}).+", r"\g<0>"),),
    head=(Rule(_IN_HEAD, r"\g<0>"),),
    ignore=(Ignore(r"text\..+", TEXT_TOWER),),
)
NATIVE_TEXT = Dialect(
    "native-text",
    rules=(Rule(r"(.+)", r"\1"),),
    prefix=r"text\.",
    ignore=(Ignore(r"(?!text\.).+", "the image tower"),),
)

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        TORCHVISION,
        HF_RESNET,
        *SELF_SUPERVISED_DIALECTS,
        CIFAR,
        TIMM_EFFICIENTNET,
        *EFFICIENTNET_PYTORCH.values(),
        *TORCHVISION_MOBILENETV3,
        *CONVNEXT_DIALECTS,
        CONV4_SEQUENTIAL,
        RESNET12,
        RESNET12_ENCODER,
        META_BASELINE,
        S2M2,
        RELATION_NETWORK,
        IRESNET,
        MOBILEFACENET,
        OPENAI_CLIP_TEXT,
        HF_CLIP_TEXT,
        *VIT_DIALECTS,
        NATIVE,
        NATIVE_TEXT,
    )
}
