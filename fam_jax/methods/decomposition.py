"""Decomposition of a similarity over positions.

v = share_d / z_d          (cosine: r^ / ||z||)
G = pullback(v)
M = sum_k G_k A_k          sums to the score for linear heads
"""

import jax.numpy as jnp
from jax import Array

from fam_jax._core.similarity import Similarity, as_similarity, cosine, frozen_gradient
from fam_jax.methods.method import Method
from fam_jax.methods.sums import products


def share_per_unit(similarity: Similarity, z: Array, r: Array) -> Array:
    """share_d / z_d, or the gradient where z_d is 0 or so small that 1 / z_d^2 overflows."""
    none = jnp.abs(z) < 2 * jnp.sqrt(jnp.finfo(z.dtype).tiny)  # the ratio's derivative has 1 / z^2
    ratio = similarity.shares(z, r) / jnp.where(none, 1, z)
    return jnp.where(none, frozen_gradient(similarity, z, r), ratio)


def decomposition(similarity: Similarity = cosine) -> Method:
    """Split the similarity over positions: how much of the score each one holds.

        M = sum_k pullback(v)_k A_k,   v_d = share_d / z_d   (cosine: r^ / ||z||)

    For a head that is linear in A (pooling, pooling and a bias-free linear map, flattening) the
    map sums to the score exactly; `decomposition(margin(cosine, bank))` sums to the margin.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w].

    Raises:
        TypeError: if `similarity` is none.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 0.0], [0.0, 3.0]]]]))
        >>> fam_jax.decomposition(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[3.0, -6.0]]]

    Source:
        Stylianou, Souvenir, Pless: Visualizing Deep Similarity Networks, WACV 2019; Zhu, Yang,
        Chen: Visual Explanation for Deep Metric Learning, TIP 2021.
    """
    return Method(as_similarity(similarity), share_per_unit, products)
