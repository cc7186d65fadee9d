"""A small network with everything that behaves otherwise in training."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pretrained_ports.models.layers import batch_norm

MASKS = np.zeros((8, 6, 6), bool)
MASKS[:, :3] = True


class Net(nnx.Module):
    """Two blocks with batch norm and dropout; the embedding is a linear map of the pooled last."""

    def __init__(self, seed=0, dtype=jnp.float32):
        rngs = nnx.Rngs(seed)
        init = {"rngs": rngs, "param_dtype": dtype, "dtype": dtype}
        self.conv1 = nnx.Conv(3, 4, (3, 3), **init)
        self.norm1 = batch_norm(4, rngs=rngs, param_dtype=dtype)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.conv2 = nnx.Conv(4, 5, (3, 3), **init)
        self.norm2 = batch_norm(5, rngs=rngs, param_dtype=dtype)
        self.act = nnx.Sequential(nnx.softplus)
        self.fc = nnx.Linear(5, 4, use_bias=False, **init)

    def __call__(self, images, scale=1.0):
        x = self.drop(jnp.tanh(self.norm1(self.conv1(images))))
        return scale * self.fc(self.act(self.norm2(self.conv2(x))).mean((1, 2)))


def batch(seed=0, dtype=np.float32, size=8):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(size, 6, 6, 3)).astype(dtype)
    return jnp.asarray(images), jnp.asarray(rng.normal(size=(size, 4)).astype(dtype))


def leaves(model, *kinds):
    """Arrays of the model, keys of random streams as numbers."""
    return numbers(nnx.state(model, *kinds))


def numbers(state):
    """Arrays of a state, keys of random streams as numbers."""
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(state)
    ]
