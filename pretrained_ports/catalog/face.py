"""Face networks."""

from functools import partial

from pretrained_ports.catalog.entry import Entry
from pretrained_ports.models.iresnet import VARIANTS, IResNet
from pretrained_ports.models.mobilefacenet import MobileFaceNet
from pretrained_ports.preprocess import Preprocess

# For faces that are cut out and aligned already, to 112 x 112; anything else keeps its proportions.
_FACE = Preprocess(size=(112, 112), resize=112, mean=(0.5,) * 3, std=(0.5,) * 3)
_RELEASE = "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch"
_LICENCE = "non-commercial research only"  # of the weights; the code is MIT

ENTRIES = {
    **{
        name: Entry(
            family="iResNet",
            build=partial(IResNet, name),
            layer="bn2",
            preprocess=_FACE,
            dialects=("insightface-iresnet", "native"),
            release=_RELEASE,
            licence=_LICENCE,
        )
        for name in VARIANTS
    },
    "mobilefacenet": Entry(
        family="MobileFaceNet",
        build=MobileFaceNet,
        layer="conv_sep",
        preprocess=_FACE,
        dialects=("insightface-mobilefacenet", "native"),
        release=_RELEASE,
        licence=_LICENCE,
    ),
}
