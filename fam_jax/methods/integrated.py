"""Integrated Jacobians of both images: an attribution to pairs of positions for any head."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.brief import one_line
from fam_jax._core.checks import AnyArray, check_choice, check_count, wide
from fam_jax._core.encoder import Encoder, check_encoder
from fam_jax._core.mesh import vary_with
from fam_jax._core.prepare import Inputs, check_inputs
from fam_jax._core.similarity import Dot, Similarity, cosine, dot, normalize
from fam_jax.methods.jacobian import position_parts
from fam_jax.methods.method import Method, check_pair
from fam_jax.methods.pairs import all_products, both_sums, check_product, pair_method


class IntegratedPair(NamedTuple):
    """Attributions to pairs of positions, and what the sum of each map tends to."""

    maps: Float[Array, "b *both"]
    totals: Float[Array, " b"]

    __repr__ = one_line


def integrated_pair(
    similarity: Similarity = cosine, *, steps: int = 32, norms: str = "frozen", chunk: int = 32
) -> Method:
    """What every position shares with the whole other image, through any head.

        M_ij = sum_xy P_ij,xy,   P from `integrated_position_pairs`, from activations of zero

    Signed. Arguments and source as `integrated_position_pairs`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: jnp.square(A.mean((1, 2))))
        >>> a, b = jnp.array([[[[2.0], [0.0]]]]), jnp.array([[[[1.0]]]])
        >>> fam_jax.explain_pairs(encode, a, b, fam_jax.integrated_pair(fam_jax.dot)).query_maps
        Array([[[1., 0.]]], dtype=float32)
    """
    options = _options(similarity, steps, norms, chunk)
    return pair_method(similarity, _pair_maps, "images", **options)


def _pair_maps(similarity, query, reference, **options):
    encoders, images = (query.encoder, reference.encoder), (query.images, reference.images)
    maps = _integrated_pair(encoders, *images, (None, None), similarity, **options).maps
    return both_sums(maps, query.activations.ndim - 2)


def _options(similarity: Similarity, steps: int, norms: str, chunk: int) -> dict[str, Any]:
    """Those of both functions, checked."""
    check_product(similarity)
    check_choice("norms", norms, ("frozen", "free"))
    check_count("chunk", chunk)
    check_count("steps", steps)
    return {"steps": steps, "norms": norms, "chunk": chunk}


def integrated_position_pairs(
    encode: Encoder | tuple[Encoder, Encoder],
    queries: Inputs,
    references: Inputs,
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

    V is U of the reference. All of P sums to the total s(a, b) - s(a, b0) - s(a0, b) + s(a0, b0),
    with a0 and b0 where the paths start: exactly for heads linear in A, else the better the more
    steps. Zeros for a pair of which nothing can be said.

    Args:
        encode, queries, references: as `explain_pairs`; of one layer.
        baseline: images (of queries, of references) at whose activations the paths start, such as
            zeros like both; if not given, the activations start at zero.
        steps: points on each path, at the middle of equal intervals.
        similarity: `cosine` or `dot`.
        norms: for `cosine`, "frozen" divides by the two images' norms all along the path, as the
            authors do; "free" integrates the normalised embedding.
        chunk: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: jnp.square(A.mean((1, 2))))
        >>> a, b = jnp.array([[[[2.0], [0.0]]]]), jnp.array([[[[1.0]]]])
        >>> out = fam_jax.integrated_position_pairs(encode, a, b, similarity=fam_jax.dot)
        >>> out.maps[0, 0, :, 0, 0].tolist(), out.totals.tolist()
        ([1.0, 0.0], [1.0])

    Source: Moeller et al.: Explaining Caption-Image Interactions in CLIP Models, TMLR 2025.
    """
    encoders = encode if isinstance(encode, tuple) and len(encode) == 2 else (encode, encode)
    for one in encoders:
        check_encoder(one)
    check_inputs("queries", queries)
    check_inputs("references", references)
    options = _options(similarity, steps, norms, chunk)
    starts = (None, None) if baseline is None else baseline
    sides = {"queries": queries, "references": references}
    for start, (side, images) in zip(starts, sides.items(), strict=True):
        if start is not None and start.shape != images.shape:
            raise ValueError(
                f"baseline: expected images {images.shape} like the {side}, got {start.shape}"
            )
    return _integrated_pair(encoders, queries, references, starts, similarity, **options)


@partial(jax.jit, static_argnames=("steps", "norms", "chunk"))
def _integrated_pair(encoders, queries, references, starts, similarity, *, steps, norms, chunk):
    whole = norms == "free" and not isinstance(similarity, Dot)
    change = normalize if whole else lambda z: wide(z)[0]
    query, u, dz = _integral(encoders[0], queries, starts[0], change, steps, chunk)
    reference, v, dr = _integral(encoders[1], references, starts[1], change, steps, chunk)
    check_pair(query, reference)
    similarity = dot if whole else similarity  # the parts are of the cosine itself
    z, r = query.embeddings, reference.embeddings
    maps = all_products(u, v, z, r, similarity)
    totals = all_products(dz[:, None], dr[:, None], z, r, similarity)
    return IntegratedPair(maps, totals.reshape(-1))


def _integral(encode: Encoder, images: Array, start, change: Callable, steps: int, chunk: int):
    """The images' encoding, U [b, *space, d], and change(z) at the end less at the start [b, d]."""
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
    zeros = vary_with(jnp.zeros((*A.shape[:-1], enc.embeddings.shape[1]), A.dtype), A, A0)
    U, _ = jax.lax.scan(step, zeros, times)
    difference = change(enc.embeddings) - change(encode.replay(images, A0).embeddings)
    return enc, U / steps, difference
