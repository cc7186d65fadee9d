"""MobileNet-v3 gives the numbers of timm and of torchvision: embedding and every stage."""

import pytest

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.checkpoints.dialects.efficientnet import torchvision_mobilenetv3
from pretrained_ports.models.mobilenetv3 import STAGES

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

NAMES = {
    "mobilenetv3-large": "tf_mobilenetv3_large_100",
    "mobilenetv3-small": "tf_mobilenetv3_small_100",
    "mobilenetv3-large-ra": "mobilenetv3_large_100",
    "mobilenetv3-small-lamb": "mobilenetv3_small_100",
}
NARROW = {
    "mobilenetv3-large-075": "tf_mobilenetv3_large_075",
    "mobilenetv3-small-075": "tf_mobilenetv3_small_075",
    "mobilenetv3-small-075-lamb": "mobilenetv3_small_075",
}
INSIDE = {  # gated with ReLU and with hard-swish
    "large": ("blocks.2.1.bn2", "blocks.2.1.se", "blocks.5.0.bn2", "blocks.5.0.se"),
    "small": ("blocks.0.0.bn1", "blocks.0.0.se", "blocks.4.1.bn2", "blocks.4.1.se"),
}


def variant(name):
    return name.split("-")[1]


def stages(name):
    return ["bn1", *(f"blocks.{i}" for i in range(len(STAGES[variant(name)]) + 1))]


def of_timm(name):
    compare.import_torchvision()
    import timm

    return timm.create_model({**NAMES, **NARROW}[name], num_classes=7)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mobilenetv3-large", (67, 93, 3)),  # "same" pads otherwise where sides are odd
        ("mobilenetv3-small", (64, 96, 3)),
        ("mobilenetv3-large-ra", (64, 96, 3)),
        ("mobilenetv3-small-lamb", (67, 93, 3)),
        ("mobilenetv3-small-075", (67, 93, 3)),
    ],
)
def test_timm(tmp_path, record_property, name, shape):
    reference = of_timm(name)
    embed = torch.nn.Sequential()
    embed.forward = lambda x: reference.forward_head(reference.forward_features(x), pre_logits=True)
    embed.reference = reference
    compare.check(
        reference,
        name,
        {path: f"reference.{path}" for path in (*stages(name), *INSIDE[variant(name)])},
        shape,
        file=tmp_path / "random.pth",
        record=record_property,
        family="MobileNet-v3",
        dialect="timm-efficientnet",
        embed=embed,
        batches=(1, 3) if name in ("mobilenetv3-large", "mobilenetv3-small") else (3,),
    )


@pytest.mark.parametrize("name", NARROW)
def test_narrow_ones_have_the_tensors_of_timm(name):
    with torch.device("meta"):
        reference = of_timm(name)
    assert compare.placed(reference, "timm-efficientnet") == compare.shapes(name)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mobilenetv3-large-tv", (64, 96, 3)), ("mobilenetv3-small-tv", (67, 93, 3))],
)
def test_torchvision(tmp_path, record_property, name, shape):
    reference = getattr(compare.import_torchvision().models, f"mobilenet_v3_{variant(name)}")()
    embed = torch.nn.Sequential()
    embed.forward = lambda x: reference.classifier[:2](
        reference.avgpool(reference.features(x)).flatten(1)
    )
    embed.reference = reference
    rows = STAGES[variant(name)]
    ends = [sum(len(row.expansions) for row in rows[: i + 1]) for i in range(len(rows))]
    paths = {f"blocks.{i}": f"reference.features.{n}" for i, n in enumerate([*ends, ends[-1] + 1])}
    compare.check(
        reference,
        name,
        {"bn1": "reference.features.0", **paths},
        shape,
        file=tmp_path / "random.pth",
        record=record_property,
        family="MobileNet-v3",
        dialect=torchvision_mobilenetv3(variant(name)),
        embed=embed,
        batches=(1, 3),
    )


@pytest.mark.parametrize(
    ("name", "model", "version"),
    [
        ("mobilenetv3-large-tv", "MobileNet_V3_Large", "V1"),
        ("mobilenetv3-large-tv2", "MobileNet_V3_Large", "V2"),
        ("mobilenetv3-small-tv", "MobileNet_V3_Small", "V1"),
        ("convnext-tiny-tv", "ConvNeXt_Tiny", "V1"),
        ("convnext-small-tv", "ConvNeXt_Small", "V1"),
        ("convnext-base-tv", "ConvNeXt_Base", "V1"),
    ],
)
def test_rows_are_those_of_torchvision(name, model, version):
    models = compare.import_torchvision().models
    theirs = getattr(models, f"{model}_Weights")[f"IMAGENET1K_{version}"]
    entry, view = ENTRIES[name], theirs.transforms()
    assert entry.release == theirs.url
    assert ((entry.preprocess.resize,), entry.preprocess.size) == (
        tuple(view.resize_size),
        tuple(view.crop_size) * 2,
    )
    assert [*entry.preprocess.mean, *entry.preprocess.std] == [*view.mean, *view.std]
    assert entry.preprocess.interpolation == view.interpolation.value
