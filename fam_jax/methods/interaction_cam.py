"""Interaction-CAM: channels that are strong in both images.

G = pullback(ds/dz)
M = sum_k A_k mean(A)_k mean(B)_k relu(G_k)
"""

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.methods.grad_cam import gradient_weights
from fam_jax.methods.pair_method import PairMethod
from fam_jax.methods.sums import Sum, products


def _interaction(G: Array, A: Array, B: Array) -> Sum:
    both = jnp.mean(A, axis=(1, 2)) * jnp.mean(B, axis=(1, 2))
    return products(both[:, None, None, :] * jax.nn.relu(G), A)


def interaction_cam(similarity: Similarity = cosine, *, norms: str = "frozen") -> PairMethod:
    """Interaction-CAM: what the similarity wants more of, in channels strong in both images.

        M = sum_k A_k mean_hw(A)_k mean_hw(B)_k relu(G_k),   G = pullback(ds/dz)

    B are the other image's activations. relu(G) is taken position by position; averaged over
    positions first, it would be the same for heads that start with a mean over positions.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        norms: "frozen" or "free", see `grad_cam`.

    Returns:
        A `PairMethod`, for `explain_pairs`.

    Raises:
        ValueError: for an unknown option.
        TypeError: if `similarity` is none.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> a, b = jnp.array([[[[4.0, 2.0], [0.0, 2.0]]]]), jnp.array([[[[2.0, 0.0]]]])
        >>> out = fam_jax.explain_pairs(encode, a, b, fam_jax.interaction_cam(fam_jax.dot))
        >>> out.query_maps.tolist(), out.reference_maps.tolist()
        ([[[16.0, 0.0]]], [[[16.0]]])

    Source:
        Sammani, Joukovsky, Deligiannis: Visualizing and Understanding Contrastive Learning, TIP
        2023 (2206.09753).
    """
    return PairMethod(as_similarity(similarity), gradient_weights(norms), _interaction)
