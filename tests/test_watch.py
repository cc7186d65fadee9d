"""Several layers of one forward pass: `capture(at=(...))`, its `watch`, and `replay`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from tests.close import assert_close
from tests.toy_network import Tokens, network

# In float64, where two programs of one formula agree to many digits.
pytestmark = pytest.mark.usefixtures("x64")

LAYERS = ("bn1", "layer4.1", "branches.left")


@pytest.fixture
def net(x64):
    return network(np.float64)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(2, 8, 12, 3))


def test_every_layer_is_as_if_captured_alone(net, images):
    several = fam_jax.capture(net, at=LAYERS)(images)
    v = jnp.asarray(np.random.default_rng(1).normal(size=several[0].embeddings.shape))
    for name, enc in zip(LAYERS, several, strict=True):
        alone = fam_jax.capture(net, at=name)(images)
        assert_close(enc.activations, alone.activations, rtol=1e-12)
        assert_close(enc.embeddings, alone.embeddings, rtol=1e-12)
        assert_close(enc.pullback(v), alone.pullback(v), rtol=1e-12)


def test_the_order_is_the_callers(net, images):
    forth = fam_jax.capture(net, at=LAYERS)(images)
    back = fam_jax.capture(net, at=LAYERS[::-1])(images)
    for a, b in zip(forth, back[::-1], strict=True):
        assert_close(a.activations, b.activations, rtol=1e-12)


def test_several_layers_cost_one_forward_pass(net, images):
    def convolutions(at):
        encode = fam_jax.capture(net, at=at)
        maps = lambda encode, x: jax.tree.leaves(encode(x))  # noqa: E731
        return jax.jit(maps).lower(encode, images).as_text().count("stablehlo.convolution")

    assert convolutions(LAYERS) == convolutions("bn1") == 5


def test_layers_that_are_no_map_are_watched(images):
    model = Tokens(nnx.Rngs(0))
    images = images.astype(np.float32)
    layers = fam_jax.capture(model, at=("blocks.0", "blocks.1"))
    watched = jax.jit(lambda layers, x: layers.watch(x))(layers, images)
    assert [x.shape for x in watched.values] == [(2, 98, 3)] * 2
    v = jnp.ones((2, 3), jnp.float32)
    # z = mean of x + block1(x): the last block's output reaches z as a mean over 98 tokens
    assert_close(watched.pullback(v)[1], np.full((2, 98, 3), 1 / 98))


def test_replay_is_the_rest_of_the_network_on_other_activations(net, images):
    encode = fam_jax.capture(net, at="layer4")
    A = encode(images).activations
    other = encode.replay(images, 0.5 * A[::-1])
    expected = net.fc(net.branches["left"](0.5 * A[::-1]).mean((1, 2)))
    assert_close(other.embeddings, expected, rtol=1e-12)
    assert_close(other.activations, 0.5 * A[::-1], rtol=1e-12)
    pulled = encode(images).pullback(expected)
    assert_close(encode.replay(images, A).pullback(expected), pulled, rtol=1e-12)


def test_replay_leaves_other_tokens_as_they_are(images):
    encode = fam_jax.capture(
        Tokens(nnx.Rngs(0)), at="blocks.1", tokens=fam_jax.TokenGrid(prefix=2, shape=(8, 12))
    )
    images = images.astype(np.float32)
    enc = encode(images)
    again = encode.replay(images, enc.activations)
    assert_close(again.embeddings, enc.embeddings)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: fam_jax.capture(m, at=("conv1", "conv2")), ValueError, "no layer 'conv2'"),
        (lambda m: fam_jax.capture(m, at=()), ValueError, "different layers, at least one"),
        (lambda m: fam_jax.capture(m, at=("fc", "fc")), ValueError, "different layers"),
        (lambda m: fam_jax.capture(m, at=("conv1", 3)), TypeError, "a layer's name, or several"),
        (lambda m: fam_jax.capture("net", at=("conv1",)), TypeError, "model: expected a module"),
        (
            lambda m: fam_jax.capture(m, at="conv1").replay(
                np.ones((1, 8, 8, 3)), np.ones((1, 4, 4, 8))
            ),
            ValueError,
            r"activations: expected \(1, 8, 8, 8\)",
        ),
    ],
)
def test_wrong_use_is_refused(net, call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call(net)
