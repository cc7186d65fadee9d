"""Layers that are written for speed compute what flax's own do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pretrained_ports.models.layers import (
    Depthwise,
    Patches,
    Pointwise,
    Wide,
    batch_norm,
    conv,
    max_pool,
)

INIT = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float32}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("size", "kind", "shape"),
    [
        (1, Pointwise, (5, 6, 7)),
        (1, Pointwise, (1, 1, 7)),
        (3, Wide, (5, 8, 256)),
        (3, Wide, (1, 2, 256)),
        (3, Wide, (9, 17, 256)),  # large: flax's own
    ],
)
def test_products_are_convolutions(size, kind, shape, stride, bias):
    layer = conv(shape[-1], 6, size, stride=stride, bias=bias, **INIT)
    assert type(layer) is kind
    assert layer.kernel.shape == (size, size, shape[-1], 6)
    if bias:
        layer.bias[...] = jnp.arange(6.0)
    x = jax.random.normal(jax.random.key(0), (2, *shape))
    expected = nnx.Conv.__call__(layer, x)
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=1e-5 * jnp.abs(expected).max())


@pytest.mark.parametrize(
    ("size", "inputs", "options"),
    [
        (1, 8, {"groups": 2}),
        (1, 8, {"padding": 1}),
        (3, 256, {"groups": 2}),
        (3, 256, {"padding": 0}),
        (3, 255, {}),
    ],
)
def test_other_convolutions_are_flaxs(size, inputs, options):
    width = 2 if "groups" in options else 3
    assert type(conv(inputs, width, size, **options, **INIT)) is nnx.Conv


@pytest.mark.parametrize("padding", [None, 0, "SAME"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("bias", [False, True])
def test_channels_by_themselves_are_a_grouped_convolution(size, stride, padding, bias):
    options = {"groups": 4, "stride": stride, "padding": padding, "bias": bias}
    layer = conv(4, 4, size, **options, **INIT)
    assert type(layer) is Depthwise
    if bias:
        layer.bias[...] = jnp.arange(4.0)
    x = jax.random.normal(jax.random.key(0), (2, 9, 14, 4))
    expected = nnx.Conv.__call__(layer, x)
    given = layer(x)
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5 * jnp.abs(expected).max())


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_patches_are_a_convolution_that_strides_its_size(size, bias):
    layer = conv(3, 5, size, stride=size, padding=0, bias=bias, **INIT)
    assert type(layer) is Patches
    if bias:
        layer.bias[...] = jnp.arange(5.0)
    x = jax.random.normal(jax.random.key(0), (2, 9, 15, 3))  # what is left over is cut off
    expected = nnx.Conv.__call__(layer, x)
    given = layer(x)
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5 * jnp.abs(expected).max())


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_max_pool_by_axes_is_that_of_both_at_once(size, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 14, 3)) - 5
    edge = (padding, padding)
    expected = nnx.max_pool(x, (size, size), strides=(stride, stride), padding=(edge, edge))
    np.testing.assert_array_equal(max_pool(x, size, stride, padding), expected)


def test_a_batch_norm_without_scale_has_statistics_only():
    norm = batch_norm(4, affine=False, **INIT)
    norm.eval()
    norm.mean[...], norm.var[...] = jnp.full(4, 2.0), jnp.full(4, 4.0 - 1e-5)
    np.testing.assert_allclose(norm(jnp.full((1, 4), 8.0)), jnp.full((1, 4), 3.0), rtol=1e-6)
    assert norm.scale is None
    assert norm.bias is None


def test_an_activated_norm_is_the_norm_and_the_activation():
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    plain = batch_norm(3, epsilon=1e-3, **INIT)
    activated = batch_norm(3, epsilon=1e-3, activation=nnx.silu, **INIT)
    for norm in (plain, activated):
        norm.mean[...] = jnp.array([0.5, 0.0, -1.0])
        norm.eval()
    np.testing.assert_array_equal(activated(x), nnx.silu(plain(x)))
    assert float(jnp.abs(plain(x) - batch_norm(3, **INIT)(x)).max()) > 1e-4
