"""Face networks: names, sizes, types, and what their heads mean for explanations."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
import pretrained_ports
from pretrained_ports.iresnet import VARIANTS, IResNet
from pretrained_ports.layers import PReLU
from pretrained_ports.random_weights import randomise
from pretrained_ports.zoo import ENTRIES


@pytest.fixture(scope="module")
def mobile():
    return pretrained_ports.create("mobilefacenet")


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (2, 112, 112, 3))


@pytest.fixture(scope="module")
def shallow():
    """iResNet with a block a stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "shallow", (1, 1, 1, 1))
        model = nnx.eval_shape(lambda: IResNet("shallow", rngs=nnx.Rngs(0)))
    randomise(model, 0, "float32")
    model.eval()
    return model


@cache
def abstract(name):
    return nnx.eval_shape(lambda: ENTRIES[name].build(rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("name", "present"),
    [
        ("iresnet18", {"layer1.0.downsample.1", "layer4.1.bn3", "prelu", "bn2", "fc", "features"}),
        ("iresnet50", {"layer3.13.prelu", "layer2.0.downsample.0"}),
        ("iresnet100", {"layer2.12.conv2", "layer3.29.bn1", "layer4.2"}),
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
    paths = {".".join(map(str, path)) for path, _ in nnx.iter_modules(abstract(name))}
    assert present | {ENTRIES[name].layer} <= paths


@pytest.mark.parametrize(
    ("name", "millions"),
    [("iresnet18", 24.0), ("iresnet34", 34.1), ("iresnet50", 43.6), ("iresnet100", 65.2)],
)
def test_sizes_with_the_embedding_layer(name, millions):
    leaves = jax.tree.leaves(nnx.state(abstract(name), nnx.Param))
    assert sum(p.size for p in leaves) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet"])
def test_embeddings_are_in_the_type_of_the_parameters(name, dtype):
    """Strict promotion refuses a mixture of types while it is traced."""
    with jax.enable_x64(dtype == "float64"):
        build = ENTRIES[name].build
        model = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0), param_dtype=jnp.dtype(dtype)))
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


@pytest.mark.parametrize("family", ["iresnet", "mobilefacenet"])
def test_maps_sum_to_the_score_less_the_part_of_the_constant(family, shallow, mobile, images):
    """As the docstrings say: the head is linear in the default layer, but for a constant."""
    model = shallow if family == "iresnet" else nnx.clone(mobile.model)
    norm = model.features if family == "iresnet" else model.features.layers[3]
    constant = jax.random.normal(jax.random.key(1), (512,))
    norm.bias[...] = constant
    enc = fam_jax.capture(model, at="bn2" if family == "iresnet" else "conv_sep")(images)
    assert enc.activations.shape == (2, 7, 7, 512)
    z, r = enc.embeddings, enc.embeddings[::-1]
    part = (fam_jax.cosine.frozen_gradient(z, r) * constant[None]).sum(-1)
    assert jnp.abs(part).min() > 1e-3
    maps = fam_jax.decomposition()(enc, r)
    expected = fam_jax.cosine.score(z, r) - part
    np.testing.assert_allclose(maps.sum((1, 2)), expected, rtol=1e-3, atol=1e-4)


def test_faces_are_explained(mobile, images):
    encode = fam_jax.capture(mobile.model, at=mobile.layer, tokens=mobile.tokens)
    out = fam_jax.explain_pairs(encode, images, images[::-1])
    assert out.valid.all()
    for maps in (out.query_maps, out.reference_maps):
        assert jnp.isfinite(maps).all()
        assert maps.any(axis=(1, 2)).all()


def test_vmap_agrees_with_the_batch(mobile, images):
    """And so evaluation mode does not mix images."""
    graph, state = nnx.split(mobile.model)
    one_by_one = jax.vmap(lambda image: nnx.merge(graph, state)(image[None])[0])
    expected = jax.jit(mobile.model)(images)
    np.testing.assert_allclose(jax.jit(one_by_one)(images), expected, rtol=1e-3, atol=1e-4)


def test_gradients_reach_images_and_parameters(shallow, images):
    graph, state = nnx.split(shallow)
    loss = lambda state, x: (nnx.merge(graph, state)(x) ** 2).sum()  # noqa: E731
    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss, argnums=(0, 1)))(state, images[:1])):
        assert jnp.isfinite(leaf).all()
        assert jnp.any(leaf != 0) or leaf.ndim == 1


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
