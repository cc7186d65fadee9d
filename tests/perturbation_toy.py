"""A small encoder of small pictures, for the methods that need forward passes only."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax

KEY = jax.random.key(7)
SIZE = (4, 6)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def flat(images):
    """Embeddings that are the pictures: a dot product is a linear score of the pixels."""
    return images.reshape(images.shape[0], -1)


def features(kernel, images):
    """Maps of half the size, signed."""
    pooled = sum(images[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    return jnp.tanh(pooled @ kernel.astype(images.dtype))


def head(kernel, A):
    return jnp.tanh(A).reshape(A.shape[0], -1) @ kernel.astype(A.dtype)


def toy(seed=0):
    """A nonlinear encoder of pictures 4 x 6 x 3, with its parameters as leaves."""
    kernels = draw(3, 5, seed=seed), draw(30, 4, seed=seed + 1)
    kernels = [jnp.asarray(k, jnp.float32) for k in kernels]
    return fam_jax.encoder(partial(features, kernels[0]), partial(head, kernels[1]))


def case(b=2, dtype=np.float32):
    images, references = draw(b, *SIZE, 3, seed=3), draw(b, 4, seed=4)
    return toy(), jnp.asarray(images, dtype), jnp.asarray(references, dtype)
