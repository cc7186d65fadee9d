"""Networks on one to four axes of positions, and every map of theirs by hand."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax

SPACES = ((5,), (3, 4), (2, 3, 2), (2, 1, 3, 2))  # positions along each axis
CHANNELS, DIMENSIONS = 4, 5


def space(x):
    return tuple(range(1, x.ndim - 1))


@cache
def matrix(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(CHANNELS, DIMENSIONS))


@cache
def encoder(name: str = "linear"):
    """Activations are the inputs themselves; the head averages positions, then is linear or not."""
    W = matrix()

    def pooled(A):
        return A.mean(space(A)) @ jnp.asarray(W, A.dtype)

    heads = {
        "gap": lambda A: A.mean(space(A)),
        "linear": pooled,
        "flatten": lambda A: A.reshape(len(A), -1),
        "tanh": lambda A: jnp.tanh(pooled(A)),
    }
    return fam_jax.encoder(lambda x: x, heads[name])


def activations(shape, seed=1, batch=3, dtype=np.float64):
    """Not negative, as after a ReLU."""
    draw = np.random.default_rng(seed).normal(size=(batch, *shape, CHANNELS))
    return jnp.asarray((np.maximum(draw, 0) + 0.01).astype(dtype))


def convolve(x, seed=0, channels=CHANNELS):
    """A convolution 3 wide along every axis, and a ReLU."""
    rank, c = x.ndim - 2, x.shape[-1]
    rng = np.random.default_rng(seed)
    kernel = jnp.asarray(rng.normal(size=(3,) * rank + (c, channels)), x.dtype)
    numbers = jax.lax.ConvDimensionNumbers(
        (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank)),
        (0, rank + 1, *range(1, rank + 1)),
    )  # fmt: skip
    out = jax.lax.conv_general_dilated(x, kernel, (1,) * rank, "SAME", dimension_numbers=numbers)
    return jax.nn.relu(out)
