"""Integrated Jacobians of both images: an attribution to pairs of positions for any head.

U_ij = integral over t in [0, 1] of sum_k J(A0 + t (A - A0))_ijk (A - A0)_ijk       [d]
P    = <U_ij, V_xy> / (||z|| ||r||)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_choice, check_count, check_float, wide
from fam_jax._core.encoder import Encoder
from fam_jax._core.encoding import Encoding
from fam_jax._core.mesh import vary_with
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Dot, Similarity, cosine, dot, normalize
from fam_jax.methods.jacobian import position_parts
from fam_jax.methods.method import Method, check_pair
from fam_jax.methods.pairs import OTHER, all_products, both_sums, check_product


class IntegratedPair(NamedTuple):
    """What `integrated_position_pairs` finds.

    Attributes:
        maps: attributions to pairs of positions, [b, h, w, hr, wr].
        totals: s(a, b) - s(a, b0) - s(a0, b) + s(a0, b0), what a map's sum tends to, [b].
    """

    maps: Float[Array, "b h w hr wr"]
    totals: Float[Array, " b"]


def integrated_pair(
    similarity: Similarity = cosine,
    *,
    steps: int = 32,
    norms: str = "frozen",
    chunk: int = 32,
) -> Method:
    """What every position shares with the whole other image, through any head.

        M_ij = sum_xy P_ij,xy,   P from `integrated_position_pairs`, from activations of zero

    Args:
        similarity: `cosine` or `dot`.
        steps: points on the path from zero activations to the image's.
        norms: as for `integrated_position_pairs`.
        chunk: how many embedding dimensions are pulled back at a time.

    Returns:
        A `Method` that needs both images: raw maps [b, h, w], signed.

    Raises:
        ValueError, TypeError: for another similarity, or arguments of other types or values.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: jnp.square(A.mean((1, 2))))
        >>> a, b = jnp.array([[[[2.0], [0.0]]]]), jnp.array([[[[1.0]]]])
        >>> fam_jax.explain_pairs(encode, a, b, fam_jax.integrated_pair(fam_jax.dot)).query_maps
        Array([[[1., 0.]]], dtype=float32)

    Source:
        Moeller, Tilli, Vu, Pado: Explaining Caption-Image Interactions in CLIP Models with
        Second-Order Attributions, TMLR 2025 (2408.14153).
    """
    check_product(similarity)
    check_choice("norms", norms, ("frozen", "free"))
    check_count("chunk", chunk)
    check_count("steps", steps)
    return Method(similarity, _Integrated(steps, norms, chunk), OTHER | {"images"})


@partial(register_dataclass, data_fields=[], meta_fields=["steps", "norms", "chunk"])
@dataclass(frozen=True)
class _Integrated:
    steps: int
    norms: str
    chunk: int

    def __call__(self, similarity: Similarity, enc: Encoding, other: Encoding) -> Array:
        return self.pair(similarity, enc, other)[0]

    def pair(
        self, similarity: Similarity, query: Encoding, reference: Encoding
    ) -> tuple[Array, Array]:
        """Both maps, from the same products."""
        found = _integrated_pair(
            query.encoder,
            query.images,
            reference.images,
            (None, None),
            similarity,
            steps=self.steps,
            norms=self.norms,
            chunk=self.chunk,
        )
        return both_sums(found.maps)


def integrated_position_pairs(
    encode: Encoder,
    queries: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b Hr Wr c"],
    baseline: tuple[AnyArray, AnyArray] | None = None,
    steps: int = 32,
    *,
    similarity: Similarity = cosine,
    norms: str = "frozen",
    chunk: int = 32,
) -> IntegratedPair:
    """Attribute the similarity of two images to pairs of positions, through any head.

        P_ij,xy = <U_ij, V_xy> / (||z|| ||r||)
        U_ij    = mean over t of sum_k J(A0 + t (A - A0))_ijk (A - A0)_ijk,   t = (n + 1/2) / steps

    V is U of the reference. All of P sums to s(a, b) - s(a, b0) - s(a0, b) + s(a0, b0), with a0
    and b0 where the paths start: exactly for heads linear in A, else the better the more steps.

    Args:
        encode: from `capture` or `encoder`, at one layer.
        queries: preprocessed images.
        references: the other image of each pair; its size may differ.
        baseline: images (of queries, of references) at whose activations the paths start, such as
            zeros like both; if not given, the activations start at zero.
        steps: points on each path, at the middle of equal intervals.
        similarity: `cosine` or `dot`.
        norms: for `cosine`, "frozen" divides by the two images' norms all along the path, as the
            authors do; "free" integrates the normalised embedding.
        chunk: how many embedding dimensions are pulled back at a time.

    Returns:
        `IntegratedPair`: maps [b, h, w, hr, wr] and the totals [b] they should sum to; zeros for
        a pair of which nothing can be said.

    Raises:
        ValueError, TypeError: for arguments of other shapes or types.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: jnp.square(A.mean((1, 2))))
        >>> a, b = jnp.array([[[[2.0], [0.0]]]]), jnp.array([[[[1.0]]]])
        >>> out = fam_jax.integrated_position_pairs(encode, a, b, similarity=fam_jax.dot)
        >>> out.maps[0, 0, :, 0, 0].tolist(), out.totals.tolist()
        ([1.0, 0.0], [1.0])

    Source:
        Moeller, Tilli, Vu, Pado: Explaining Caption-Image Interactions in CLIP Models with
        Second-Order Attributions, TMLR 2025 (2408.14153).
    """
    if not isinstance(encode, Encoder):
        raise TypeError(
            f"encode: expected fam_jax.capture(model, at=...) of one layer, got "
            f"{type(encode).__name__}"
        )
    check_float("queries", queries, "batch height width channels")
    check_float("references", references, "batch height width channels")
    check_product(similarity)
    check_choice("norms", norms, ("frozen", "free"))
    check_count("chunk", chunk)
    check_count("steps", steps)
    starts = (None, None) if baseline is None else baseline
    for start, images, of in zip(
        starts, (queries, references), ("queries", "references"), strict=True
    ):
        if start is not None and start.shape != images.shape:
            raise ValueError(
                f"baseline: expected images {images.shape} like the {of}, got {start.shape}"
            )
    return _integrated_pair(
        encode, queries, references, starts, similarity, steps=steps, norms=norms, chunk=chunk
    )


@partial(jax.jit, static_argnames=("steps", "norms", "chunk"))
def _integrated_pair(encode, queries, references, starts, similarity, *, steps, norms, chunk):
    change = _keep if norms == "frozen" or isinstance(similarity, Dot) else normalize
    query, u, dz = _integral(encode, queries, starts[0], change, steps, chunk)
    reference, v, dr = _integral(encode, references, starts[1], change, steps, chunk)
    check_pair(query, reference)
    if change is normalize:  # the parts are of the cosine itself
        similarity = dot
    z, r = query.embeddings, reference.embeddings
    maps = all_products(u, v, z, r, similarity)
    totals = all_products(dz[:, None, None], dr[:, None, None], z, r, similarity)
    return IntegratedPair(maps, totals.reshape(-1))


def _keep(z: Array) -> Array:
    return wide(z)[0]


def _integral(encode: Encoder, images: Array, start, change: Callable, steps: int, chunk: int):
    """The images' encoding, U [b, h, w, d], and change(z) at the end less at the start [b, d]."""
    enc = encode(images)
    (A,) = wide(enc.activations)
    A0 = jnp.zeros_like(A) if start is None else wide(encode(start).activations)[0]

    def step(total, t):
        at = encode.replay(images, A0 + t * (A - A0))
        z, back = jax.vjp(change, at.embeddings)
        back_to = lambda v: at.pullback(back(vary_with(*wide(v), z))[0])  # noqa: E731
        parts = position_parts(back_to, at.embeddings, A - A0, chunk)
        return total + parts, None

    times = (jnp.arange(steps, dtype=A.dtype) + 0.5) / steps
    zeros = vary_with(jnp.zeros((*A.shape[:3], enc.embeddings.shape[1]), A.dtype), A, A0)
    U, _ = jax.lax.scan(step, zeros, times)
    difference = change(enc.embeddings) - change(encode.replay(images, A0).embeddings)
    return enc, U / steps, difference
