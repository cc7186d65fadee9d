"""The similarity of two images, split over all pairs of their positions.

u_ij = sum_k J_ijk A_ijk                       what position ij gives to the embedding, [d]
P    = <u_ij, v_xy> / (||z|| ||r||)            v_xy: the same of the other image
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fam_jax._core.checks import AnyArray, check_count, check_float, wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.similarity import Cosine, Dot, Similarity, cosine
from fam_jax.methods.jacobian import position_parts
from fam_jax.methods.method import check_encoding, sayable

_PAIRS = "batch height width reference_height reference_width"


def point_to_point(
    query: Encoding, reference: Encoding, similarity: Similarity = cosine, *, chunk: int = 32
) -> Float[Array, "b h w hr wr"]:
    """How much of the similarity every position of one image holds with every one of the other.

        P_ij,xy = <u_ij, v_xy> / (||z|| ||r||),   u_ij[d] = sum_k (dz_d / dA_ijk) A_ijk

    v_xy is the reference's u; `dot` has no norms. For heads that are linear in A all of P sums to
    the score, and summed over xy it is `decomposition` of the query; a slice P[b, i, j] shows
    what the point ij of the query meets in the reference. Where activations are positive that is
    mostly what every point meets: `centred` leaves what tells the points apart.

    Args:
        query: the encoded images.
        reference: the other image of each pair; its map may have another size.
        similarity: `cosine` or `dot`.
        chunk: how many embedding dimensions of both images are pulled back at a time; memory
            beside the result grows with it.

    Returns:
        Shares [b, h, w, hr, wr], at least float32; zeros for a pair of which nothing can be said.

    Raises:
        ValueError, TypeError: for another similarity, or encodings that make no pairs.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> a = encode(jnp.array([[[[4.0, 0.0], [0.0, 2.0]]]]))
        >>> b = encode(jnp.array([[[[0.0, 6.0], [2.0, 0.0]]]]))
        >>> fam_jax.point_to_point(a, b, fam_jax.dot)[0, 0, :, 0].tolist()
        [[0.0, 2.0], [3.0, 0.0]]

    Source:
        Zhu, Yang, Chen: Visual Explanation for Deep Metric Learning, TIP 2021 (1909.12977).
    """
    check_pair(query, reference)
    check_product(similarity)
    check_count("chunk", chunk)
    return _point_to_point(query, reference, similarity, chunk=chunk)


@partial(jax.jit, static_argnames="chunk")
def _point_to_point(query, reference, similarity, *, chunk):
    u = position_parts(query.pullback, query.embeddings, query.activations, chunk)
    v = position_parts(reference.pullback, reference.embeddings, reference.activations, chunk)
    return all_products(u, v, query.embeddings, reference.embeddings, similarity)


def all_products(u: Array, v: Array, z: Array, r: Array, similarity: Similarity) -> Array:
    """<u_ij, v_xy>, over the norms of z and r for a cosine; zeros where nothing can be said."""
    u, v, z, r = wide(u, v, z, r)
    if isinstance(similarity, Cosine):
        u, v = over_norm(u, z), over_norm(v, r)
    products = jnp.einsum("bijd,bxyd->bijxy", u, v, precision=jax.lax.Precision.HIGHEST)
    ok = sayable(z) & sayable(r) & jnp.all(jnp.isfinite(products), axis=(1, 2, 3, 4))
    return jnp.where(ok[:, None, None, None, None], products, 0)


def over_norm(u: Array, z: Array) -> Array:
    """The parts [b, h, w, d] divided by ||z||; by 1 where it is 0."""
    square = jnp.sum(z * z, axis=-1)[:, None, None, None]
    return u / jnp.sqrt(jnp.where(square == 0, 1, square))


def centred(p2p: Float[AnyArray, "b h w hr wr"]) -> Float[Array, "b h w hr wr"]:
    """Shares of pairs of positions beyond what each position shares with all.

        P - mean_ij P - mean_xy P + mean P = <u_ij - mean u, v_xy - mean v> / (||z|| ||r||)

    Args:
        p2p: shares of all pairs of positions, from `point_to_point` or `integrated_pair`.

    Returns:
        Shares [b, h, w, hr, wr] whose means over either image are zero.

    Raises:
        ValueError, TypeError: if `p2p` is no floating-point array of five axes.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> p2p = jnp.array([[4.0, 8.0], [0.0, 0.0]]).reshape(1, 1, 2, 1, 2)
        >>> fam_jax.centred(p2p).reshape(2, 2).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]
    """
    check_float("p2p", p2p, _PAIRS)
    (p2p,) = wide(p2p)
    p2p = p2p - jnp.mean(p2p, axis=(1, 2), keepdims=True)
    return p2p - jnp.mean(p2p, axis=(3, 4), keepdims=True)


def correspondences(p2p: Float[AnyArray, "b h w hr wr"]) -> Int[Array, "b h w 2"]:
    """The reference position that shares most with every position of the query.

        (x, y) = argmax_xy P_ij,xy

    Args:
        p2p: shares of all pairs of positions, from `point_to_point` or `integrated_pair`.

    Returns:
        Row and column, in cells of the reference's map, [b, h, w, 2]; of equal shares the first
        in reading order.

    Raises:
        ValueError, TypeError: if `p2p` is no floating-point array of five axes.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> p2p = jnp.array([[0.0, 1.0], [2.0, 0.0]]).reshape(1, 1, 2, 1, 2)
        >>> fam_jax.correspondences(p2p).tolist()
        [[[[0, 1], [0, 0]]]]
    """
    check_float("p2p", p2p, _PAIRS)
    b, h, w, hr, wr = p2p.shape
    best = jnp.argmax(jnp.reshape(jnp.asarray(p2p), (b, h, w, hr * wr)), axis=-1)
    return jnp.stack([best // wr, best % wr], axis=-1)


def check_pair(query: Encoding, reference: Encoding) -> None:
    """Raise unless the two encodings are of as many images, with embeddings of one size."""
    check_encoding(query)
    check_encoding(reference)
    if query.embeddings.shape != reference.embeddings.shape:
        raise ValueError(
            f"reference: expected embeddings {query.embeddings.shape} like the query's, got "
            f"{reference.embeddings.shape}"
        )


def check_product(similarity: Similarity) -> None:
    """Raise unless the similarity is a product of both embeddings, which pairs can share."""
    if not isinstance(similarity, Cosine | Dot):
        raise TypeError(
            "similarity: expected fam_jax.cosine or fam_jax.dot, products of both embeddings "
            f"that pairs of positions can share, got {similarity!r}"
        )
