"""Relevance-CAM: channels weighted by their relevance.

v = share_d / z_d          relevance at the embedding: the shares
R = A pullback(v)          relevance at the layer, through a network made by `relevance`
w = mean_hw R
M = sum_k w_k A_k
"""

import jax.numpy as jnp
from jax import Array

from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.methods.decomposition import share_per_unit
from fam_jax.methods.method import Method
from fam_jax.methods.sums import Sum, weighted


def _relevance_mean(G: Array, A: Array) -> Sum:
    R = G * A
    return weighted(jnp.mean(R, axis=(1, 2)), A, jnp.mean(jnp.abs(R), axis=(1, 2)))


def relevance_cam(similarity: Similarity = cosine) -> Method:
    """Relevance-CAM: sum_k w_k A_k, w_k = mean_hw (A_k pullback(v)_k), v_d = share_d / z_d.

    For an encoder of `relevance(model)`, whose pullback carries relevance; with an ordinary one,
    channels are weighted by gradient times activation.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own. The paper starts from a
            classifier, contrastively: `dot` with the row of the class less the mean of the others.

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w].

    Raises:
        TypeError: if `similarity` is none.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]]))
        >>> fam_jax.relevance_cam(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[8.0, -16.0]]]

    Source:
        Lee, Kim, Park, Eo, Hwang: Relevance-CAM: Your Model Already Knows Where to Look, CVPR
        2021.
    """
    return Method(as_similarity(similarity), share_per_unit, _relevance_mean)
