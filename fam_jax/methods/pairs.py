"""Methods that look at both images: strong channels, and the similarity split over positions."""

from collections.abc import Callable
from functools import partial
from string import ascii_uppercase as letters
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fam_jax._core.axes import map_axes, space, spread
from fam_jax._core.checks import AnyArray, check_count, check_float, wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.similarity import Cosine, Dot, Similarity, cosine
from fam_jax.methods.cams import gradient_method
from fam_jax.methods.jacobian import position_parts
from fam_jax.methods.method import Method, check_pair, explainable, zero_unless
from fam_jax.methods.sums import Sum, products


def interaction_cam(similarity: Similarity = cosine, *, norms: str = "frozen") -> Method:
    """Interaction-CAM: what the similarity wants more of, in channels strong in both images.

        M = sum_k A_k mean_hw(A)_k mean_hw(B)_k relu(G_k),   G = pullback(ds/dz)

    B are the other image's activations. relu(G) is taken position by position; averaged over
    positions first, it would be the same for heads that start with a mean over positions.
    Arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> a, b = jnp.array([[[[4.0, 2.0], [0.0, 2.0]]]]), jnp.array([[[[2.0, 0.0]]]])
        >>> out = fam_jax.explain_pairs(encode, a, b, fam_jax.interaction_cam(fam_jax.dot))
        >>> out.query_maps.tolist(), out.reference_maps.tolist()
        ([[[16.0, 0.0]]], [[[16.0]]])

    Source: Sammani et al.: Visualizing and Understanding Contrastive Learning, TIP 2023.
    """
    return gradient_method(similarity, norms, _interaction, both=True)


def _interaction(G: Array, A: Array, B: Array) -> Sum:
    if A.shape[-1] != B.shape[-1]:
        raise ValueError(
            "reference: this method multiplies the channels of both layers, expected "
            f"{A.shape[-1]} as the query's layer has, got {B.shape[-1]}"
        )
    both = jnp.mean(A, axis=space(A)) * jnp.mean(B, axis=space(B))
    return products(spread(both, space(A)) * jax.nn.relu(G), A)


@pytree_dataclass()
class _Both:
    """Maps of both images of a pair from one computation."""

    maps: Callable[..., tuple[Array, Array]]

    def __call__(self, similarity: Similarity, enc: Encoding, other: Encoding) -> Array:
        return self.maps(similarity, enc, other)[0]

    def pair(self, *args: Any) -> tuple[Array, Array]:
        return self.maps(*args)


def pair_method(similarity: Similarity, maps: Callable, *needs: str, **options: Any) -> Method:
    """A method by `maps(similarity, query, reference, **options)`, both maps of pairs at once."""
    both = _Both(as_pytree(partial(maps, **options)))
    return Method(similarity, both, frozenset({"other", *needs}))


def point_to_point(similarity: Similarity = cosine, *, chunk: int = 32) -> Method:
    """How much of the similarity every position shares with the whole other image.

        M_ij = sum_xy P_ij,xy,   P from `position_pairs`

    Signed. For heads that are linear in A it is `decomposition`; for others each image is split by
    its own Jacobian, with no regard to what a similarity's share forgets. The similarity is
    `cosine` or `dot`; other arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> a, b = jnp.array([[[[4.0, 0.0], [0.0, 2.0]]]]), jnp.array([[[[0.0, 6.0], [2.0, 0.0]]]])
        >>> fam_jax.point_to_point(fam_jax.dot)(encode(a), encode(b)).tolist()
        [[[2.0, 3.0]]]

    Source: Zhu, Yang, Chen: Visual Explanation for Deep Metric Learning, TIP 2021 (1909.12977).
    """
    check_product(similarity)
    check_count("chunk", chunk)
    return pair_method(similarity, _point_to_point, chunk=chunk)


def _point_to_point(similarity, query, reference, *, chunk):
    p2p = position_pairs(query, reference, similarity, chunk=chunk)
    return both_sums(p2p, query.activations.ndim - 2)


def both_sums(p2p: Array, rank: int) -> tuple[Array, Array]:
    """Shares of pairs of positions summed over the other image; of the query's there are `rank`."""
    own, others = map_axes(p2p)[:rank], map_axes(p2p)[rank:]
    return jnp.sum(p2p, axis=others), jnp.sum(p2p, axis=own)


def position_pairs(
    query: Encoding, reference: Encoding, similarity: Similarity = cosine, *, chunk: int = 32
) -> Float[Array, "b *both"]:
    """How much of the similarity every position of one image holds with every one of the other.

        P_ij,xy = <u_ij, v_xy> / (||z|| ||r||),   u_ij[d] = sum_k (dz_d / dA_ijk) A_ijk

    [b, h, w, hr, wr]; v_xy is the reference's u; `dot` has no norms. For heads that are linear in A
    all of P sums to the score, and summed over xy it is `decomposition` of the query; P[b, i, j] is
    what the point ij of the query meets in the reference, where activations are positive mostly
    what every point meets: `centred` leaves what tells them apart. Zeros for a pair of which
    nothing can be said. The similarity is `cosine` or `dot`; `chunk`: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> a, b = jnp.array([[[[4.0, 0.0], [0.0, 2.0]]]]), jnp.array([[[[0.0, 6.0], [2.0, 0.0]]]])
        >>> fam_jax.position_pairs(encode(a), encode(b), fam_jax.dot)[0, 0, :, 0].tolist()
        [[0.0, 2.0], [3.0, 0.0]]

    Source: Zhu, Yang, Chen: Visual Explanation for Deep Metric Learning, TIP 2021 (1909.12977).
    """
    check_pair(query, reference)
    check_product(similarity)
    check_count("chunk", chunk)
    return _position_pairs(query, reference, similarity, chunk=chunk)


@partial(jax.jit, static_argnames="chunk")
def _position_pairs(query, reference, similarity, *, chunk):
    u = position_parts(query.split, query.embeddings, query.activations, chunk)
    v = position_parts(reference.split, reference.embeddings, reference.activations, chunk)
    return all_products(u, v, query.embeddings, reference.embeddings, similarity)


def all_products(u: Array, v: Array, z: Array, r: Array, similarity: Similarity) -> Array:
    """<u_ij, v_xy>, over the norms of z and r for a cosine; zeros where nothing can be said."""
    u, v, z, r = wide(u, v, z, r)
    if isinstance(similarity, Cosine):
        u, v = over_norm(u, z), over_norm(v, r)
    own, others = letters[: u.ndim - 2], letters[u.ndim - 2 :][: v.ndim - 2]
    terms = f"b{own}d,b{others}d->b{own}{others}"
    p2p = jnp.einsum(terms, u, v, precision="highest")
    return zero_unless(explainable(z) & explainable(r), p2p)


def over_norm(u: Array, z: Array) -> Array:
    """The parts [b, *space, d] divided by ||z||; by 1 where it is 0."""
    square = spread(jnp.sum(z * z, axis=-1), map_axes(u))
    return u / jnp.sqrt(jnp.where(square == 0, 1, square))


def centred(
    p2p: Float[AnyArray, "b *both"], query_axes: int | None = None
) -> Float[Array, "b *both"]:
    """Shares of pairs of positions beyond what each position shares with all.

        P - mean_ij P - mean_xy P + mean P = <u_ij - mean u, v_xy - mean v> / (||z|| ||r||)

    The result's means over either image are zero.

    Args:
        p2p: P [b, h, w, hr, wr], or of other positions, from `position_pairs` or
            `integrated_position_pairs`.
        query_axes: how many of P's axes are the query's, where the reference has others: 2 for
            patches and words [b, h, w, n]. As many as the reference's, if not given.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> p2p = jnp.array([[4.0, 8.0], [0.0, 0.0]]).reshape(1, 1, 2, 1, 2)
        >>> fam_jax.centred(p2p).reshape(2, 2).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]
    """
    rank = _rank(p2p, query_axes)
    (p2p,) = wide(p2p)
    p2p = p2p - jnp.mean(p2p, axis=map_axes(p2p)[:rank], keepdims=True)
    return p2p - jnp.mean(p2p, axis=map_axes(p2p)[rank:], keepdims=True)


def correspondences(
    p2p: Float[AnyArray, "b *both"], query_axes: int | None = None
) -> Int[Array, "b *space axes"]:
    """The reference position that shares most with every position of the query.

        (x, y) = argmax_xy P_ij,xy

    In cells of the reference's map, row and column of an image's, one number of a word's; of equal
    shares the first in reading order counts. Arguments: see `centred`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> p2p = jnp.array([[0.0, 1.0], [2.0, 0.0]]).reshape(1, 1, 2, 1, 2)
        >>> fam_jax.correspondences(p2p).tolist()
        [[[[0, 1], [0, 0]]]]
        >>> fam_jax.correspondences(p2p[..., 0, :], query_axes=2).tolist()  # of words
        [[[[1], [0]]]]
    """
    rank = _rank(p2p, query_axes)
    flat = jnp.reshape(jnp.asarray(p2p), (*p2p.shape[: rank + 1], -1))
    best = jnp.unravel_index(jnp.argmax(flat, axis=-1), p2p.shape[rank + 1 :])
    return jnp.stack(best, axis=-1)


def _rank(p2p: AnyArray, query_axes: int | None) -> int:
    """How many axes the positions of the query have."""
    check_float("p2p", p2p, "batch *query *reference")
    positions = p2p.ndim - 1
    if query_axes is not None:
        check_count("query_axes", query_axes, positions - 1)
        return query_axes
    if positions % 2:
        raise ValueError(
            f"p2p: expected an array [batch *query *reference], got shape {p2p.shape}: of "
            f"{positions} axes of positions, say how many are the query's: query_axes="
        )
    return positions // 2


def check_product(similarity: Similarity) -> None:
    """Raise unless the similarity is a product of both embeddings, which pairs can share."""
    if not isinstance(similarity, Cosine | Dot):
        raise TypeError(
            "similarity: expected fam_jax.cosine or fam_jax.dot, products of both embeddings "
            f"that pairs of positions can share, got {similarity!r}"
        )
