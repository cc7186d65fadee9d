"""Grad-CAM on a similarity, and its relatives: ways to combine G = pullback(ds/dz) with A."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.axes import space, spread
from fam_jax._core.checks import check_choice
from fam_jax._core.similarity import Similarity, cosine, frozen_gradient, gradient
from fam_jax.methods.method import Method
from fam_jax.methods.pulled import pullback_method
from fam_jax.methods.sums import Sum, products, relu, weighted

GRADIENTS = {"frozen": frozen_gradient, "free": gradient}


def gradient_method(
    similarity: Similarity, norms: str, combine: Callable[..., Sum], **options: Any
) -> Method:
    """M = combine(G, A), G = pullback(ds/dz); options of `pullback_method`."""
    check_choice("norms", norms, GRADIENTS)
    return pullback_method(
        similarity, GRADIENTS[norms], combine, gradient=norms == "free", **options
    )


def grad_cam(similarity: Similarity = cosine, *, norms: str = "frozen") -> Method:
    """Grad-CAM: relu(sum_k alpha_k A_k), alpha = mean_hw pullback(ds/dz); see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]]))
        >>> fam_jax.grad_cam(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[4.0, 0.0]]]

    Source: Selvaraju et al., ICCV 2017; for embeddings Chen et al., WACV 2020 (arXiv 2001.06538).
    """
    return gradient_method(similarity, norms, _channel_mean)


def _channel_mean(G: Array, A: Array) -> Sum:
    return relu(weighted(jnp.mean(G, axis=space(G)), A, jnp.mean(jnp.abs(G), axis=space(G))))


def layer_cam(similarity: Similarity = cosine, *, norms: str = "frozen") -> Method:
    """LayerCAM: relu(sum_k relu(G_k) A_k), G = pullback(ds/dz).

    Every position has its own weights: maps of early layers stay sharp. See `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]]))
        >>> fam_jax.layer_cam(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[4.0, 0.0]]]

    Source: Jiang et al.: LayerCAM, IEEE TIP 2021.
    """
    return gradient_method(similarity, norms, _positive_products)


def _positive_products(G: Array, A: Array) -> Sum:
    return relu(products(jax.nn.relu(G), A))


def hires_cam(similarity: Similarity = cosine, *, norms: str = "frozen") -> Method:
    """HiResCAM: sum_k G_k A_k, signed, G = pullback(ds/dz).

    For a head that is linear in A it is, with `dot`, the `decomposition`, and sums to the score;
    with norms="free" the map of a cosine sums to 0. Arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 0.0], [0.0, 3.0]]]]))
        >>> fam_jax.hires_cam(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[3.0, -6.0]]]

    Source: Draelos and Carin: Use HiResCAM instead of Grad-CAM, 2020 (arXiv 2011.08891).
    """
    return gradient_method(similarity, norms, products, pooled=weighted)


def xgrad_cam(similarity: Similarity = cosine, *, norms: str = "frozen") -> Method:
    """XGrad-CAM: relu(sum_k alpha_k A_k), alpha_k = sum_hw G_k A_k / sum_hw A_k.

    G = pullback(ds/dz). A channel whose activations sum to 0 gets no weight. For a head that is a
    plain mean the map is Grad-CAM's. Arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]]))
        >>> fam_jax.xgrad_cam(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[4.0, 0.0]]]

    Source: Fu et al.: Axiom-based Grad-CAM, BMVC 2020 (arXiv 2008.02312).
    """
    return gradient_method(similarity, norms, _activation_mean)


def _activation_mean(G: Array, A: Array) -> Sum:
    total = jnp.sum(A, axis=space(A))
    below = jnp.where(total == 0, 1, total)
    terms = jnp.where(spread(total, space(A)) == 0, 0, G * A)
    alpha = jnp.sum(terms, axis=space(A)) / below
    return relu(weighted(alpha, A, jnp.sum(jnp.abs(terms), axis=space(A)) / jnp.abs(below)))


def grad_cam_pp(similarity: Similarity = cosine, *, norms: str = "frozen") -> Method:
    """Grad-CAM++: relu(sum_k alpha_k A_k).

        alpha_k = sum_hw [G_k^2 / (2 G_k^2 + G_k^3 sum_hw A_k)] relu(G_k),   G = pullback(ds/dz)

    The bracket is 0 where its denominator is. The source takes the score for the logarithm of a
    class score, of which the map would be another one. Arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]]))
        >>> fam_jax.grad_cam_pp(fam_jax.dot)(enc, jnp.array([[1.0, -4.0]])).tolist()
        [[[1.0, 0.0]]]

    Source: Chattopadhyay et al.: Grad-CAM++, WACV 2018 (arXiv 1710.11063).
    """
    return gradient_method(similarity, norms, _curvature)


def _curvature(G: Array, A: Array) -> Sum:
    # G^2 cancels, so that no power of a small gradient is lost; only positive G count.
    G = jax.nn.relu(G)
    below = 2 + G * jnp.sum(A, axis=space(A), keepdims=True)
    terms = jnp.where(below == 0, 0, G / jnp.where(below == 0, 1, below))
    return relu(weighted(jnp.sum(terms, axis=space(A)), A, jnp.sum(jnp.abs(terms), axis=space(A))))
