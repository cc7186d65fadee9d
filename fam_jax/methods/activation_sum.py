"""The plain sum of activations: the baseline that knows nothing of the reference."""

import jax.numpy as jnp
from jax import Array

from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.methods.method import Method
from fam_jax.methods.sums import Sum


def _zeros(similarity: Similarity, z: Array, r: Array) -> Array:
    return jnp.zeros_like(z)


def _plain(G: Array, A: Array) -> Sum:
    return Sum(jnp.sum(A, axis=-1), jnp.sum(jnp.abs(A), axis=(1, 2, 3)))


def activation_sum(similarity: Similarity = cosine) -> Method:
    """M = sum_k A_k, whatever the reference: what any method must beat to have said something.

    Args:
        similarity: only the score that is reported beside the map.

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w].

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 1.0], [0.0, 3.0]]]]))
        >>> fam_jax.activation_sum()(enc, jnp.array([[1.0, 0.0]])).tolist()
        [[[4.0, 3.0]]]
    """
    return Method(as_similarity(similarity), _zeros, _plain)
