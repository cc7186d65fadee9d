"""Shapes, names and types of the networks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pretrained_ports
from pretrained_ports.cifar_resnet import CifarResNet
from pretrained_ports.conv4 import Conv4
from pretrained_ports.layers import as_input
from pretrained_ports.resnet import VARIANTS, ResNet

SMALL = {"resnet18": (33, 47), "cifar-resnet20": (17, 20), "conv4": (33, 20)}


@pytest.fixture(scope="module", params=SMALL)
def backbone(request):
    return pretrained_ports.create(request.param)


@pytest.fixture(scope="module")
def images(backbone):
    shape = (2, *SMALL[backbone.name], 3)
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


@pytest.fixture(scope="module")
def embeddings(backbone, images):
    return jitted(backbone)(images)


def pure(backbone):
    graph, state = nnx.split(backbone.model)
    return state, lambda state, images: nnx.merge(graph, state)(images)


def jitted(backbone):
    state, embed = pure(backbone)
    return partial(jax.jit(embed), state)


def test_jit_agrees_with_the_plain_call():
    backbone = pretrained_ports.create("conv4")
    images = jax.random.normal(jax.random.key(0), (2, 33, 20, 3))
    expected = backbone.model(images)
    np.testing.assert_allclose(jitted(backbone)(images), expected, rtol=1e-4, atol=1e-5)


def test_vmap_agrees_with_the_batch(backbone, images, embeddings):
    """And so evaluation mode does not mix images."""
    state, embed = pure(backbone)
    one_by_one = jax.jit(jax.vmap(lambda image: embed(state, image[None])[0]))(images)
    np.testing.assert_allclose(one_by_one, embeddings, rtol=1e-4, atol=1e-5)


def test_gradients_reach_images_and_parameters(backbone, images):
    state, embed = pure(backbone)
    loss = jax.jit(jax.grad(lambda s, x: (embed(s, x) ** 2).sum(), argnums=(0, 1)))
    for leaf in jax.tree.leaves(loss(state, images)):
        assert jnp.isfinite(leaf).all()
        assert jnp.any(leaf != 0) or leaf.ndim == 1  # a mean of zero behind a dead channel


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_computes_in_the_type_of_its_parameters(backbone, images, embeddings, dtype):
    with jax.enable_x64(dtype == "float64"):
        other = pretrained_ports.create(backbone.name, param_dtype=dtype)
        given = jitted(other)(images)
        assert given.dtype == dtype
        error = jnp.abs(given.astype("float32") - embeddings).max()
        assert error <= 0.1 * jnp.abs(given).max().astype("float32")


def test_float64_without_64_bit_mode_is_refused():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        pretrained_ports.create("conv4", param_dtype=jnp.float64)


@pytest.mark.parametrize("variant", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_resnet_modules_have_the_names_of_the_original(variant):
    model = nnx.eval_shape(lambda: ResNet(variant, rngs=nnx.Rngs(0)))
    depths = VARIANTS[variant].depths
    paths = {".".join(map(str, path)) for path, _ in nnx.iter_modules(model)}
    expected = {"conv1", "bn1", "layer1", "layer4.0.downsample.0", "layer4.0.downsample.1"}
    expected |= {f"layer{s}.{b}.conv2" for s, d in enumerate(depths, 1) for b in range(d)}
    assert expected <= paths
    assert ("layer1.0.downsample.0" in paths) == (variant != "resnet18")
    assert [len(getattr(model, f"layer{s}")) for s in (1, 2, 3, 4)] == list(depths)


@pytest.mark.parametrize(
    ("variant", "millions"),
    [("resnet18", 11.18), ("resnet50", 23.51), ("resnext50_32x4d", 22.98)],
)
def test_resnet_sizes(variant, millions):
    model = nnx.eval_shape(lambda: ResNet(variant, rngs=nnx.Rngs(0)))
    parameters = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(p.size for p in parameters) / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_stage_is_callable_and_survives_split_and_merge():
    model = pretrained_ports.create("cifar-resnet20").model
    copy = nnx.merge(*nnx.split(model))
    x = jnp.ones((1, 8, 8, 16))
    y = x
    for block in copy.layer1:
        y = block(y)
    np.testing.assert_array_equal(model.layer1(x), y)
    np.testing.assert_array_equal(copy.layer1[2](x), model.layer1[2](x))


def test_flattened_conv4_is_laid_out_channel_by_channel():
    flat = Conv4(rngs=nnx.Rngs(0))
    pooled = Conv4(head="pool", rngs=nnx.Rngs(0))
    flat.eval()
    pooled.eval()
    images = jax.random.normal(jax.random.key(0), (2, 48, 32, 3))
    cells = flat(images).reshape(2, 64, 3 * 2)
    np.testing.assert_allclose(cells.mean(2), pooled(images), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 7)])
def test_the_smallest_images(size):
    assert pretrained_ports.create("resnet18").model(jnp.ones((1, *size, 3))).shape == (1, 512)
    assert pretrained_ports.create("cifar-resnet20").model(jnp.ones((1, *size, 3))).shape == (1, 64)


def test_bad_input_is_refused_with_both_shapes(unchecked):
    model = Conv4(rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"\[b, H, W, 3\], got shape \[1, 32, 32, 1\]"):
        model(jnp.ones((1, 32, 32, 1)))
    with pytest.raises(ValueError, match=r"\[b, H, W, 3\], got shape \[32, 32, 3\]"):
        as_input(jnp.ones((32, 32, 3)), like=model.block1.conv)
    with pytest.raises(ValueError, match="at least 16 x 16 pixels, got 15 x 32"):
        model(jnp.ones((1, 15, 32, 3)))
    with pytest.raises(ValueError, match="'flatten' or 'pool', got 'max'"):
        Conv4(head="max", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="6 n \\+ 2"):
        CifarResNet(21, rngs=nnx.Rngs(0))


def test_training_mode_updates_the_statistics():
    model = Conv4(rngs=nnx.Rngs(0))
    before = model.block1.bn.mean[...]
    model(jax.random.normal(jax.random.key(0), (2, 16, 16, 3)))
    assert jnp.any(model.block1.bn.mean[...] != before)
