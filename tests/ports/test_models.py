"""Shapes, names and types of the networks."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pretrained_ports
from pretrained_ports.catalog import find_entry
from pretrained_ports.catalog.entry import abstract
from pretrained_ports.models.cifar_resnet import CifarResNet
from pretrained_ports.models.conv4 import Conv4
from pretrained_ports.models.layers import as_input
from pretrained_ports.models.resnet import VARIANTS, ResNet
from tests.close import assert_close
from tests.ports import network

# Of every family one with a block a stage.
SHALLOW = {
    "resnet": (ResNet, ["shallow"], (33, 47)),
    "cifar-resnet": (CifarResNet, [8], (17, 20)),
    "conv4": (Conv4, [], (33, 20)),
}
every = pytest.mark.parametrize("family", SHALLOW)


@cache
def make(family, dtype="float32"):
    build, args, _ = SHALLOW[family]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "shallow", VARIANTS["resnet18"]._replace(depths=(1, 1, 1, 1)))
        return network.filled(build, *args, dtype=dtype)


def images(family):
    shape = (2, *SHALLOW[family][2], 3)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("family", ["cifar-resnet", "conv4"])
def test_jit_agrees_with_the_plain_call(x64, family):
    model = make(family, "float64")
    plain = model(jnp.asarray(images(family)))
    assert_close(network.embed(model, images(family)), plain, rtol=1e-12)


@every
def test_vmap_agrees_with_the_batch(x64, family):
    """And so evaluation mode does not mix images."""
    model = make(family, "float64")
    batch = network.embed(model, images(family))
    assert_close(network.one_by_one(model, images(family)), batch, rtol=1e-12)


@every
def test_gradients_reach_images_and_parameters(family):
    for path, leaf in network.gradients(make(family), images(family)).items():
        assert np.isfinite(leaf).all(), path
        assert leaf.any() or leaf.ndim == 1, path  # a mean of zero behind a dead channel


@every
def test_computes_in_the_type_of_its_parameters(family):
    expected = network.embed(make(family), images(family))
    # bfloat16 has 8 bits: 0.004 for each of the roundings, of which there are some dozens.
    for dtype, tolerance in (("bfloat16", 0.1), ("float64", 1e-4)):
        with jax.enable_x64(dtype == "float64"):
            given = network.embed(make(family, dtype), images(family))
        assert given.dtype == dtype
        assert_close(given, expected, rtol=tolerance)


def test_float64_without_64_bit_mode_is_refused():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        pretrained_ports.create("conv4", param_dtype=jnp.float64)


@pytest.mark.parametrize("variant", ["resnet18", "resnet50"])
def test_resnet_modules_have_the_names_of_the_original(variant):
    model = abstract(find_entry(variant))
    depths = VARIANTS[variant].depths
    paths = network.paths(model)
    expected = {"conv1", "bn1", "layer1", "layer4.0.downsample.0", "layer4.0.downsample.1"}
    expected |= {f"layer{s}.{b}.conv2" for s, d in enumerate(depths, 1) for b in range(d)}
    assert expected <= paths
    assert ("layer1.0.downsample.0" in paths) == (variant != "resnet18")
    assert [len(getattr(model, f"layer{s}")) for s in (1, 2, 3, 4)] == list(depths)


def test_a_stage_is_callable_and_survives_split_and_merge():
    model = network.filled(CifarResNet, 14)
    copy = nnx.merge(*nnx.split(model))
    x = jnp.ones((1, 8, 8, 16))
    y = x
    for block in copy.layer1:
        y = block(y)
    np.testing.assert_array_equal(model.layer1(x), y)
    np.testing.assert_array_equal(copy.layer1[1](x), model.layer1[1](x))


def test_flattened_conv4_is_laid_out_channel_by_channel():
    x = np.random.default_rng(0).standard_normal((2, 48, 32, 3), np.float32)
    cells = network.embed(make("conv4"), x).reshape(2, 64, 3 * 2)
    assert_close(cells.mean(2), network.embed(network.filled(Conv4, head="pool"), x))


@pytest.mark.parametrize(("family", "dim"), [("resnet", 512), ("cifar-resnet", 64)])
def test_the_smallest_image(family, dim):
    embedding = network.embed(make(family), np.ones((1, 1, 1, 3), np.float32))
    assert embedding.shape == (1, dim)
    assert np.isfinite(embedding).all()


def test_bad_input_is_refused_with_both_shapes(unchecked):
    model = make("conv4")
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
    model = network.filled(Conv4)
    model.train()
    before = np.asarray(model.block1.bn.mean[...])
    nnx.jit(lambda model, x: model(x))(model, images("conv4"))
    assert (np.asarray(model.block1.bn.mean[...]) != before).any()
