"""ConvNeXt gives the numbers of timm, torchvision and transformers: embedding and every stage."""

import pytest

from pretrained_ports.models.convnext import VARIANTS

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

STAGES = ("stem", *(f"stages.{i}" for i in range(4)))
INSIDE = ("stages.0.blocks.1.conv_dw", "stages.3.downsample", "stages.3.blocks.2.conv_dw")
LARGER = [v for v in VARIANTS if v != "tiny"]


def of_timm(variant):
    compare.import_torchvision()
    import timm

    return timm.create_model(f"convnext_{variant}", num_classes=7)


def of_torchvision(variant):
    models = compare.import_torchvision().models
    return getattr(models, f"convnext_{variant}")(num_classes=7)


def of_transformers(variant):
    transformers = pytest.importorskip("transformers")
    first, depths = VARIANTS[variant]
    config = transformers.ConvNextConfig(
        depths=depths,
        hidden_sizes=[first * 2**i for i in range(4)],
        layer_norm_eps=1e-6,  # as the authors' last norm has it
        num_labels=7,
    )
    return transformers.ConvNextForImageClassification(config)


def as_the_authors(weights):
    """A state_dict of timm in the names of facebookresearch/ConvNeXt, under "model" as there."""
    names = {}
    for key in weights:
        name = key.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".")
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        name = name.replace("head.norm.", "norm.").replace("head.fc.", "head.")
        if ".downsample." in name:
            name = name.replace("stages", "downsample_layers").replace(".downsample", "")
        names[key] = name
    return {"model": {names[key]: value for key, value in weights.items()}}


@pytest.mark.parametrize(
    ("dialect", "shape", "state"),
    [("timm-convnext", (67, 93, 3), None), ("facebook-convnext", (64, 96, 3), as_the_authors)],
)
def test_timm(tmp_path, record_property, dialect, shape, state):
    reference = of_timm("tiny")
    embed = compare.before_the_classifier(reference)
    compare.check(
        reference,
        "convnext-tiny",
        {path: f"reference.{path}" for path in (*STAGES, *INSIDE)},
        shape,
        file=tmp_path / "random.pth",
        record=record_property,
        family="ConvNeXt",
        dialect=dialect,
        state=state,
        embed=embed,
        batches=(3,) if state else (1, 3),
    )


def test_torchvision(tmp_path, record_property):
    reference = of_torchvision("tiny")
    embed = torch.nn.Sequential()
    embed.forward = lambda x: reference.classifier[:2](reference.avgpool(reference.features(x)))
    embed.reference = reference
    compare.check(
        reference,
        "convnext-tiny-tv",
        {path: f"reference.features.{max(0, 2 * i - 1)}" for i, path in enumerate(STAGES)},
        (67, 93, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="ConvNeXt",
        dialect="torchvision-convnext",
        embed=embed,
        batches=(3,),
    )


def test_transformers(tmp_path, record_property):
    reference = of_transformers("tiny")
    embed = torch.nn.Sequential()
    embed.forward = lambda x: reference.convnext(x).pooler_output
    embed.reference = reference
    network = "reference.convnext"
    compare.check(
        reference,
        "convnext-tiny",
        {path: f"{network}.encoder.{path}" for path in STAGES[1:]}
        | {"stem": f"{network}.embeddings"},
        (64, 96, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="ConvNeXt",
        dialect="hf-convnext",
        embed=embed,
        batches=(3,),
    )


@pytest.mark.parametrize("variant", LARGER)
@pytest.mark.parametrize(
    ("dialect", "make"),
    [
        ("timm-convnext", of_timm),
        ("torchvision-convnext", of_torchvision),
        ("hf-convnext", of_transformers),
    ],
)
def test_larger_ones_have_the_tensors_of_the_original(dialect, make, variant):
    with torch.device("meta"):
        reference = make(variant)
    assert compare.placed(reference, dialect) == compare.shapes(f"convnext-{variant}")
