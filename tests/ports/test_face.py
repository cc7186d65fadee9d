"""Face networks: names, sizes, types, and what their heads mean for explanations."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
import pretrained_ports
from pretrained_ports.catalog import ENTRIES, entry
from pretrained_ports.models.iresnet import VARIANTS, IResNet
from pretrained_ports.models.layers import PReLU
from tests.close import assert_close
from tests.ports import network

IMAGES = np.random.default_rng(0).standard_normal((2, 112, 112, 3), np.float32)
REFERENCES = np.random.default_rng(1).standard_normal((2, 512), np.float32)


@cache
def make(family):
    """The model and its default layer; of iResNet one with a block a stage."""
    if family == "mobilefacenet":
        backbone = pretrained_ports.create(family)
        return backbone.model, backbone.layer
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "shallow", (1, 1, 1, 1))
        return network.filled(IResNet, "shallow"), ENTRIES["iresnet18"].layer


@cache
def abstract(name):
    return entry.abstract(ENTRIES[name])


@pytest.mark.parametrize(
    ("name", "present"),
    [
        ("iresnet18", {"layer1.0.downsample.1", "layer4.1.bn3", "prelu", "bn2", "fc", "features"}),
        ("iresnet50", {"layer3.13.prelu", "layer2.0.downsample.0"}),
        (
            "mobilefacenet",
            {
                "layers.0.layers.2",
                "layers.2.layers.1.layers.2",
                "layers.5.layers.5.layers.2.layers.1",
                "conv_sep.layers.0",
                "features.layers.0.layers.0",
                "features.layers.3",
            },
        ),
    ],
)
def test_modules_have_the_names_of_the_original(name, present):
    assert present | {ENTRIES[name].layer} <= network.paths(abstract(name))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet"])
def test_embeddings_are_in_the_type_of_the_parameters(name, dtype):
    """Strict promotion refuses a mixture of types while it is traced."""
    with jax.enable_x64(dtype == "float64"):
        model = entry.abstract(ENTRIES[name], jnp.dtype(dtype))
        model.eval()
        picture = jax.ShapeDtypeStruct((2, 112, 112, 3), "float32")
        out = nnx.eval_shape(lambda model, x: model(x), model, picture)
    assert (out.shape, out.dtype) == ((2, 512), dtype)


@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet"])
def test_other_sizes_than_the_head_takes_are_refused(name, unchecked):
    model = abstract(name)
    picture = jax.ShapeDtypeStruct((1, 112, 96, 3), "float32")
    with pytest.raises(ValueError, match=r"must be 112 x 112 pixels, got 112 x 96: .*every cell"):
        nnx.eval_shape(lambda model, x: model(x), model, picture)


def test_an_aligned_crop_is_only_normalised():
    """(x - 127.5) / 127.5, pixel by pixel."""
    pixels = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    given = ENTRIES["iresnet50"].preprocess(pixels)
    np.testing.assert_allclose(given, (pixels.astype(float) - 127.5) / 127.5, atol=1e-6)


@jax.jit
def explained(encode, images, references):
    """A decomposition, FAM, scores, the weights of the cosine's shares, and embeddings."""
    enc = encode(images)
    z = enc.embeddings
    maps = [method(enc, references) for method in (fam_jax.decomposition(), fam_jax.fam())]
    scores = fam_jax.cosine.score(z, references)
    return *maps, scores, fam_jax.cosine.frozen_gradient(z, references), z


@pytest.mark.numerics
@pytest.mark.parametrize(
    "family", ["iresnet", pytest.param("mobilefacenet", marks=pytest.mark.slow)]
)
def test_maps_sum_to_the_score_less_the_part_of_the_constant(family):
    """As the docstrings say: the head is linear in the default layer, but for a constant."""
    model, layer = make(family)
    model = nnx.clone(model)
    *_, z = explained(fam_jax.capture(model, at=layer), IMAGES, REFERENCES)
    # As large as what it is added to, or either would be all there is to see.
    constant = np.asarray(z).std() * np.random.default_rng(2).standard_normal(512, np.float32)
    norm = model.features if family == "iresnet" else model.features.layers[3]
    norm.bias[...] = jnp.asarray(constant)
    out = explained(fam_jax.capture(model, at=layer), IMAGES, REFERENCES)
    parts, maps, scores, weights, _ = map(np.asarray, out)
    terms = weights * constant
    assert np.abs(terms.sum(1)).min() > 1e-2 * np.abs(scores).max()
    every_term = np.abs(terms).sum() + np.abs(parts).sum()
    assert_close(parts.sum((1, 2)), scores - terms.sum(1), relative_to=every_term)
    assert maps.shape == (2, 7, 7)
    assert np.isfinite(maps).all()
    assert maps.any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    "family", ["iresnet", pytest.param("mobilefacenet", marks=pytest.mark.slow)]
)
def test_vmap_agrees_with_the_batch(family):
    """And so evaluation mode does not mix images: up to the rounding of some fifty layers."""
    model, _ = make(family)
    assert_close(network.one_by_one(model, IMAGES), network.embed(model, IMAGES), rtol=1e-4)


def test_gradients_reach_images_and_parameters():
    model, _ = make("iresnet")
    for path, leaf in network.gradients(model, IMAGES[:1]).items():
        assert np.isfinite(leaf).all(), path
        assert leaf.any() or leaf.ndim == 1, path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_prelu_has_a_slope_for_every_channel(dtype):
    layer = PReLU(2, param_dtype=jnp.dtype(dtype))
    layer.slope[...] = jnp.array([0.5, -1.0], dtype)
    x = jnp.array([[[-2.0, -2.0], [3.0, 3.0]]], dtype)
    given = layer(x)
    assert given.dtype == dtype
    assert given.tolist() == [[[-1.0, 2.0], [3.0, 3.0]]]
    slopes = jax.grad(lambda x: layer(x).sum().astype("float32"))(x)
    assert slopes.tolist() == [[[0.5, -1.0], [1.0, 1.0]]]
