"""Methods that look at both images: strong channels, and the similarity split over positions.

interaction_cam   M = sum_k A_k mean(A)_k mean(B)_k relu(G_k),   G = pullback(ds/dz)
point_to_point    M_ij = sum_xy P_ij,xy,   P_ij,xy = <u_ij, v_xy> / (||z|| ||r||)
u_ij = sum_k J_ijk A_ijk                   what position ij gives to the embedding, [d]
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fam_jax._core.checks import AnyArray, check_count, check_float, wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Cosine, Dot, Similarity, cosine
from fam_jax.methods.cams import gradient_weights
from fam_jax.methods.jacobian import position_parts
from fam_jax.methods.method import Method, check_pair, explainable
from fam_jax.methods.pulled import pullback_method
from fam_jax.methods.sums import Sum, products

OTHER = frozenset({"other"})
_PAIRS = "batch height width reference_height reference_width"


def _interaction(G: Array, A: Array, B: Array) -> Sum:
    both = jnp.mean(A, axis=(1, 2)) * jnp.mean(B, axis=(1, 2))
    return products(both[:, None, None, :] * jax.nn.relu(G), A)


def interaction_cam(similarity: Similarity = cosine, *, norms: str = "frozen") -> Method:
    """Interaction-CAM: what the similarity wants more of, in channels strong in both images.

        M = sum_k A_k mean_hw(A)_k mean_hw(B)_k relu(G_k),   G = pullback(ds/dz)

    B are the other image's activations. relu(G) is taken position by position; averaged over
    positions first, it would be the same for heads that start with a mean over positions.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        norms: "frozen" or "free", see `grad_cam`.

    Returns:
        A `Method` that needs the other image, for `explain_pairs`.

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
    return pullback_method(similarity, gradient_weights(norms), _interaction, both=True)


def point_to_point(similarity: Similarity = cosine, *, chunk: int = 32) -> Method:
    """How much of the similarity every position shares with the whole other image.

        M_ij = sum_xy P_ij,xy,   P from `position_pairs`

    For heads that are linear in A it is `decomposition`; for others each image is split by its own
    Jacobian, with no regard to what a similarity's share forgets.

    Args:
        similarity: `cosine` or `dot`.
        chunk: how many embedding dimensions are pulled back at a time.

    Returns:
        A `Method` that needs the other image: raw maps [b, h, w], signed.

    Raises:
        ValueError, TypeError: for another similarity.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> a = encode(jnp.array([[[[4.0, 0.0], [0.0, 2.0]]]]))
        >>> b = encode(jnp.array([[[[0.0, 6.0], [2.0, 0.0]]]]))
        >>> fam_jax.point_to_point(fam_jax.dot)(a, b).tolist()
        [[[2.0, 3.0]]]

    Source:
        Zhu, Yang, Chen: Visual Explanation for Deep Metric Learning, TIP 2021 (1909.12977).
    """
    check_product(similarity)
    check_count("chunk", chunk)
    return Method(similarity, _PointToPoint(chunk), OTHER)


@partial(register_dataclass, data_fields=[], meta_fields=["chunk"])
@dataclass(frozen=True)
class _PointToPoint:
    chunk: int

    def __call__(self, similarity: Similarity, enc: Encoding, other: Encoding) -> Array:
        return self.pair(similarity, enc, other)[0]

    def pair(
        self, similarity: Similarity, query: Encoding, reference: Encoding
    ) -> tuple[Array, Array]:
        """Both maps, from the same products."""
        return both_sums(position_pairs(query, reference, similarity, chunk=self.chunk))


def both_sums(p2p: Array) -> tuple[Array, Array]:
    """Shares of pairs of positions summed over the other image: [b, h, w] and [b, hr, wr]."""
    return jnp.sum(p2p, axis=(3, 4)), jnp.sum(p2p, axis=(1, 2))


def position_pairs(
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
        >>> fam_jax.position_pairs(a, b, fam_jax.dot)[0, 0, :, 0].tolist()
        [[0.0, 2.0], [3.0, 0.0]]

    Source:
        Zhu, Yang, Chen: Visual Explanation for Deep Metric Learning, TIP 2021 (1909.12977).
    """
    check_pair(query, reference)
    check_product(similarity)
    check_count("chunk", chunk)
    return _position_pairs(query, reference, similarity, chunk=chunk)


@partial(jax.jit, static_argnames="chunk")
def _position_pairs(query, reference, similarity, *, chunk):
    u = position_parts(query.pullback, query.embeddings, query.activations, chunk)
    v = position_parts(reference.pullback, reference.embeddings, reference.activations, chunk)
    return all_products(u, v, query.embeddings, reference.embeddings, similarity)


def all_products(u: Array, v: Array, z: Array, r: Array, similarity: Similarity) -> Array:
    """<u_ij, v_xy>, over the norms of z and r for a cosine; zeros where nothing can be said."""
    u, v, z, r = wide(u, v, z, r)
    if isinstance(similarity, Cosine):
        u, v = over_norm(u, z), over_norm(v, r)
    products = jnp.einsum("bijd,bxyd->bijxy", u, v, precision=jax.lax.Precision.HIGHEST)
    ok = explainable(z) & explainable(r) & jnp.all(jnp.isfinite(products), axis=(1, 2, 3, 4))
    return jnp.where(ok[:, None, None, None, None], products, 0)


def over_norm(u: Array, z: Array) -> Array:
    """The parts [b, h, w, d] divided by ||z||; by 1 where it is 0."""
    square = jnp.sum(z * z, axis=-1)[:, None, None, None]
    return u / jnp.sqrt(jnp.where(square == 0, 1, square))


def centred(p2p: Float[AnyArray, "b h w hr wr"]) -> Float[Array, "b h w hr wr"]:
    """Shares of pairs of positions beyond what each position shares with all.

        P - mean_ij P - mean_xy P + mean P = <u_ij - mean u, v_xy - mean v> / (||z|| ||r||)

    Args:
        p2p: shares of all pairs of positions, from `position_pairs` or `integrated_position_pairs`.

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
        p2p: shares of all pairs of positions, from `position_pairs` or `integrated_position_pairs`.

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


def check_product(similarity: Similarity) -> None:
    """Raise unless the similarity is a product of both embeddings, which pairs can share."""
    if not isinstance(similarity, Cosine | Dot):
        raise TypeError(
            "similarity: expected fam_jax.cosine or fam_jax.dot, products of both embeddings "
            f"that pairs of positions can share, got {similarity!r}"
        )
