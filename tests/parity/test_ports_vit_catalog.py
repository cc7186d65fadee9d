"""Vision transformers of the zoo at their own sizes have timm's shapes and licences."""

import numpy as np
import pytest
from flax import nnx

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.models.state import parameters

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

ON_THE_HUB = [n for n, e in ENTRIES.items() if e.hub and e.hub.repository.startswith("timm/vit_")]
ON_THE_HUB += [n for n, e in ENTRIES.items() if e.hub and e.hub.repository.startswith("timm/deit")]


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_licences_are_those_that_timm_lists(name):
    compare.import_torchvision()
    import timm

    entry = ENTRIES[name]
    if not name.startswith("clip"):  # MIT; timm lists its own licence
        config = timm.get_pretrained_cfg(entry.hub.repository.removeprefix("timm/"))
        assert entry.licence.lower() == config.license


def test_a_row_for_every_weight_that_the_docs_promise():
    assert len(ON_THE_HUB) >= 35


@pytest.mark.parametrize(
    "name",
    [
        *("vit-tiny-patch16", "vit-small-patch32", "vit-base-patch8", "vit-large-patch32-384"),
        *("deit-base-patch16-distilled-384", "dino-base-patch8", "dinov2-giant-reg4"),
        *("clip-vit-l14-336", "siglip-base-patch16-384"),
    ],
)
def test_shapes_are_those_of_timm(name):
    """Every parameter of every size, without making a model."""
    compare.import_torchvision()
    import timm

    entry = ENTRIES[name]
    with torch.device("meta"):
        reference = timm.create_model(entry.hub.repository.removeprefix("timm/"))
    (dialect,) = {"timm-vit", "timm-clip", "timm-siglip"} & set(entry.dialects)
    dialect = DIALECTS[dialect]
    shapes = {}
    for key, tensor in reference.state_dict().items():
        if dialect.reason_to_ignore(key):
            continue
        rule = dialect.place(key)
        path = rule.target.partition("[")[0]
        array = rule.transform(np.broadcast_to(np.float32(0), tensor.shape))
        known = shapes.get(path, (*array.shape[:-1], 0))
        shapes[path] = (*array.shape[:-1], known[-1] + array.shape[-1])
    fitted = entry.infer(entry, shapes)
    model = nnx.eval_shape(lambda: fitted.build(rngs=nnx.Rngs(0)))
    assert {path: array.shape for path, array in parameters(model).items()} == shapes


@pytest.mark.parametrize("name", [n for n in ENTRIES if n.startswith("vit-") and "-tv" in n])
def test_rows_are_what_torchvision_lists(name):
    """Files, pictures, and the shapes of every parameter, without making a model."""
    models = compare.import_torchvision().models
    entry = ENTRIES[name]
    file = entry.release.rpartition("/")[2]
    sizes = ("b_16", "b_32", "l_16", "l_32", "h_14")
    kinds = (models.get_model_weights(f"vit_{size}") for size in sizes)
    (weights,) = (one for kind in kinds for one in kind if one.url == entry.release)
    ours, theirs = entry.preprocess, weights.transforms()
    assert (list(ours.size), [ours.resize]) == (2 * theirs.crop_size, theirs.resize_size)
    assert ours.interpolation == theirs.interpolation.value
    assert (list(ours.mean), list(ours.std)) == (theirs.mean, theirs.std)
    size = weights.meta["min_size"][0]
    with torch.device("meta"):
        reference = models.get_model(file[:8], image_size=size)
    assert compare.placed(reference, "torchvision-vit") == compare.shapes(name)
