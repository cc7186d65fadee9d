"""The list of models tells the truth about them."""

import pytest

from pretrained_ports import describe
from pretrained_ports.catalog import ENTRIES


def test_every_model_has_a_row_with_a_family_and_an_input():
    rows = {row.name: row for row in describe.table()}
    assert list(rows) == list(ENTRIES)
    assert all(row.family and row.parameters > 1000 for row in rows.values())
    assert rows["resnet50"].input == "224 x 224 x 3"


def test_the_parameters_of_every_model_are_those_that_were_counted():
    """`python -m pretrained_ports.describe` writes them anew."""
    assert {row.name: row.parameters for row in describe.table()} == describe.counted()


def test_parameters_are_those_that_the_papers_count():
    """Without the classifier: ResNet-50's 25.56 M less 2.05 M."""
    assert describe.row("resnet50").parameters == 25_557_032 - 2_049_000


@pytest.mark.parametrize("name", ["resnet18", "cifar-resnet20", "conv4-omniglot"])
def test_layers_are_listed_with_the_default_among_them(name):
    layers = {layer.path: layer for layer in describe.layers(name)}
    default = layers[ENTRIES[name].layer]
    assert default.shape[2] == {"resnet18": 512}.get(name, 64)


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="nearest names are: resnet50"):
        describe.layers("resnet51")
