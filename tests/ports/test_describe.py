"""The list of models tells the truth about them."""

import json

import pytest

from pretrained_ports.catalog import ENTRIES, describe


def test_every_model_has_a_row_with_a_family_and_an_input():
    rows = {row.name: row for row in describe.table()}
    assert list(rows) == list(ENTRIES)
    assert set(json.loads(describe.SIZES.read_text())) == set(ENTRIES)
    assert all(row.family and row.parameters > 1000 for row in rows.values())
    assert rows["resnet50"].input == "224 x 224 x 3"


def smallest():
    """Of every family the model with the fewest parameters."""
    names = {}
    for row in sorted(describe.table(), key=lambda row: row.parameters):
        names.setdefault(row.family, row.name)
    return sorted(names.values())


@pytest.mark.parametrize("name", smallest())
def test_the_parameters_of_a_family_are_those_that_were_counted(name):
    assert describe.row(name) in describe.table()


@pytest.mark.slow
def test_the_parameters_of_every_model_are_those_that_were_counted():
    """`python -m pretrained_ports.catalog.describe` writes them anew."""
    assert json.loads(describe.SIZES.read_text()) == describe.counted()


# In millions, without classifiers.
PUBLISHED = {
    # He et al. 2016: ResNet-50's 25.557 less 2.049; Xie et al. 2017
    "resnet18": 11.18,
    "resnet50": 23.508,
    "resnext50_32x4d": 22.98,
    # Tan and Le 2019: 5.289 and 19.342 less the classifiers; lite by https://github.com/tensorflow/tpu
    "efficientnet-b0": 4.0,
    "efficientnet-b4": 17.55,
    "efficientnet-lite0": 3.37,
    # Howard et al. 2019: 5.4 and 2.5, by torchvision 5.483 and 2.543, less the classifiers
    "mobilenetv3-large": 4.202,
    "mobilenetv3-small": 1.518,
    # Liu et al. 2022: 28.59, 50.22 and 88.59 less the classifiers
    "convnext-tiny": 27.82,
    "convnext-small": 49.45,
    "convnext-base": 87.57,
    # Touvron et al. 2021; Oquab et al. 2024; Radford et al. 2021
    "vit-tiny-patch16": 5.52,
    "vit-large-patch16": 303.30,
    "deit-small-patch16": 21.67,
    "dinov2-small": 22.06,
    "dinov2-giant": 1136.48,
    "clip-vit-b32": 87.85,
    "clip-vit-l14": 303.97,
    "siglip-base-patch16": 92.88,
    # WRN-28-10 on CIFAR-10 has 36.5, 0.006 of them for the classifier
    "resnet12": 12.42,
    "resnet12-512": 8.0,
    "wrn-28-10": 36.47,
    "relationnet": 0.113,
    # with the embedding layer
    "iresnet18": 24.03,
    "iresnet34": 34.14,
    "iresnet50": 43.59,
    "iresnet100": 65.16,
}


def test_parameters_are_those_that_were_published():
    counts = {row.name: row.parameters / 1e6 for row in describe.table() if row.name in PUBLISHED}
    assert counts == pytest.approx(PUBLISHED, abs=0.01)


@pytest.mark.parametrize("name", ["resnet18", "cifar-resnet20", "conv4-omniglot"])
def test_layers_are_listed_with_the_default_among_them(name):
    layers = {layer.path: layer for layer in describe.layers(name)}
    default = layers[ENTRIES[name].layer]
    assert default.shape[2] == {"resnet18": 512}.get(name, 64)


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="nearest names are: resnet50"):
        describe.layers("resnet51")
