"""Grad-CAM on a similarity.

G     = pullback(ds/dz)
alpha = mean_hw G
M     = relu(sum_k alpha_k A_k)
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from fam_jax._core.checks import check_choice
from fam_jax._core.similarity import Similarity, as_similarity, cosine, frozen_gradient, gradient
from fam_jax.methods.method import Method
from fam_jax.methods.sums import Sum, relu, weighted

_GRADIENTS = {"frozen": frozen_gradient, "free": gradient}


def gradient_weights(norms: str) -> Callable[[Similarity, Array, Array], Array]:
    """ds/dz with the norms in the similarity "frozen" or "free"; see `grad_cam`."""
    check_choice("norms", norms, _GRADIENTS)
    return _GRADIENTS[norms]


def _channel_mean(G: Array, A: Array) -> Sum:
    return relu(weighted(jnp.mean(G, axis=(1, 2)), A, jnp.mean(jnp.abs(G), axis=(1, 2))))


def grad_cam(similarity: Similarity = cosine, *, norms: str = "frozen") -> Method:
    """Grad-CAM of the similarity: relu(sum_k alpha_k A_k), alpha = mean_hw pullback(ds/dz).

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        norms: "frozen" holds the norms in the similarity constant (the gradient of the dot
            product); "free" takes the true gradient, which for a cosine is orthogonal to z: its
            signed evidence sums to zero whatever the score.

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w].

    Raises:
        ValueError: for an unknown option.
        TypeError: if `similarity` is none.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]]))
        >>> fam_jax.grad_cam(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[4.0, 0.0]]]

    Source:
        Selvaraju et al., ICCV 2017; for embeddings Chen et al., WACV 2020 (arXiv 2001.06538).
    """
    return Method(as_similarity(similarity), gradient_weights(norms), _channel_mean)
