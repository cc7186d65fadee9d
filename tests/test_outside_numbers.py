"""Numbers published by other projects, reached with models of a few lines."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fam_jax
from tests.close import assert_close

pytestmark = pytest.mark.numerics


def captum_network(at: str) -> fam_jax.Encoder:
    """captum's one-convolution test model: ones kernels, biases -50 and -75, 8 -> 4 linear."""
    kernel = jnp.ones((3, 3, 1, 2))
    bias = jnp.array([-50.0, -75.0])
    linear = jnp.concatenate([jnp.ones((5, 4)), -jnp.ones((3, 4))])

    def network(images):
        x = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = fam_jax.tap(x + bias.reshape(1, 1, 1, 2), "conv1")
        x = fam_jax.tap(jax.nn.relu(x), "relu1")
        return jax.nn.relu(x.transpose(0, 3, 1, 2).reshape(x.shape[0], 8) @ linear)

    return fam_jax.capture(network, at=at)


IMAGE = jnp.arange(16.0).reshape(1, 4, 4, 1)
FIRST_CLASS = jnp.array([[1.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("at", "expected"),
    [("conv1", [[11.25, 13.5], [20.25, 22.5]]), ("relu1", [[0.0, 4.0], [28.0, 32.5]])],
)
def test_captum_layer_grad_cam(at, expected):
    """captum, tests/attr/layer/test_layer_grad_cam.py; a class score is the dot with a unit row."""
    maps = fam_jax.grad_cam(fam_jax.dot)(captum_network(at)(IMAGE), FIRST_CLASS)
    np.testing.assert_allclose(maps[0], expected, rtol=1e-6)


def test_captum_channels_before_their_sum():
    """The same file's attr_dim_summation=False: the pullback itself, averaged, times A."""
    enc = captum_network("conv1")(IMAGE)
    alpha = enc.pullback(FIRST_CLASS).mean((1, 2))
    parts = (alpha[:, None, None] * enc.activations)[0].transpose(2, 0, 1)
    expected = [[[-3.75, 3.0], [23.25, 30.0]], [[15.0, 10.5], [-3.0, -7.5]]]
    np.testing.assert_allclose(parts, expected, rtol=1e-6)


def test_pair_saliency_line_detector():
    """PAIR saliency, core/grad_cam_test.py: mask along two lines for a 3x3 square, max = 1."""
    square = np.zeros((5, 5))
    square[1:-1, 1:-1] = 1
    lines = np.tile([1.0, 2.0, 3.0, 2.0, 1.0], (5, 1))
    lines[[0, -1]] *= -1
    lines[2] = 0
    encode = fam_jax.encoder(
        lambda images: jnp.asarray(lines, jnp.float32).reshape(1, 5, 5, 1) + 0 * images,
        lambda A: A.mean((1, 2)) + 1,
    )
    enc = encode(jnp.asarray(square, jnp.float32).reshape(1, 5, 5, 1))
    mask = fam_jax.rescale(fam_jax.grad_cam(fam_jax.dot)(enc, jnp.ones((1, 1))))[0]
    row = [1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3]
    np.testing.assert_allclose(mask, [[0] * 5, row, [0] * 5, row, [0] * 5], atol=1e-6)


def test_tf_explain_weighted_sum():
    """tf-explain, tests/core/test_grad_cam.py: 1*1 + 2*2 + 3*4 = 17 (without its added 1)."""
    A = jnp.broadcast_to(jnp.array([1.0, 2.0, 4.0]), (1, 3, 3, 3))
    weights = jnp.array([[1.0, 2.0, 3.0]])
    encode = fam_jax.encoder(lambda x: x, lambda A: A.sum((1, 2)))
    maps = fam_jax.grad_cam(fam_jax.dot)(encode(A), weights)
    np.testing.assert_allclose(maps[0], np.full((3, 3), 17.0), rtol=1e-6)


def test_cosine_and_its_gradient_are_those_of_optax(x64):
    rng = np.random.default_rng(0)
    z, r = rng.normal(size=(2, 5, 7))
    expected, slope = jax.value_and_grad(lambda z: optax.losses.cosine_similarity(z, r).sum())(z)
    ours, ours_slope = jax.value_and_grad(lambda z: fam_jax.cosine.score(z, r).sum())(z)
    assert_close(ours, expected, relative_to=5, rtol=1e-10)  # five cosines
    assert_close(ours_slope, slope, rtol=1e-10)
