"""Layers that give several arrays: the only one that can be a map, or the one that is asked for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import fam_jax

IMAGES = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))


def both(x):
    """A map and what goes with it."""
    return jnp.tanh(x), {"mean": x.mean((1, 2))}


def two(x):
    return jnp.tanh(x), jnp.exp(x)


def of_nnx(fn):
    class Layer(nnx.Module):
        def __call__(self, x):
            return fn(x)

    class Net(nnx.Module):
        def __init__(self):
            self.layer = Layer()

        def __call__(self, x):
            return self.layer(x)[0].mean((1, 2))

    return Net()


def of_linen(fn):
    class Layer(linen.Module):
        def __call__(self, x):
            return fn(x)

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return Layer(name="layer")(x)[0].mean((1, 2))

    return Net().bind({})


def of_equinox(fn):
    class Layer(eqx.Module):
        def __call__(self, x):
            return fn(x)

    class Net(eqx.Module):
        layer: Layer

        def __call__(self, x):
            return self.layer(x)[0].mean((1, 2))

    return Net(Layer())


KINDS = {"nnx": of_nnx, "linen": of_linen, "equinox": of_equinox}


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_map_is_taken_and_others_are_asked_for(kind):
    encode = fam_jax.capture(KINDS[kind](both), at="layer")
    np.testing.assert_allclose(encode(IMAGES).activations, jnp.tanh(IMAGES), rtol=1e-6)
    net = KINDS[kind](two)
    for part, fn in enumerate((jnp.tanh, jnp.exp)):
        enc = fam_jax.capture(net, at=f"layer:{part}")(IMAGES)
        np.testing.assert_allclose(enc.activations, fn(IMAGES), rtol=1e-6)
        G = enc.pullback(jnp.ones((2, 3)))
        np.testing.assert_allclose(G, jnp.full(IMAGES.shape, 0 if part else 1 / 16), rtol=1e-6)
    for at in ("layer", "layer:2"):
        with pytest.raises(ValueError, match=r"take one of layer:0 \(2, 4, 4, 3\), layer:1"):
            fam_jax.capture(net, at=at)(IMAGES)
