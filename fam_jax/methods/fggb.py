"""FGGB: where the embedding dimensions that agree, and those that do not, look.

g_d = sum_k |pullback(e_d)_k|, divided by its mean over positions
S   = sum_d g_d (share_d - threshold / dimensions) = S+ - S-
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_count, check_float, wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.mesh import vary_with
from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.methods.jacobian import rows_at_a_time, unit
from fam_jax.methods.method import check_encoding, sayable


class SignedMaps(NamedTuple):
    """What speaks for a pair, and what against; both are non-negative.

    Attributes:
        positive: raw maps [b, h, w] of what is alike.
        negative: raw maps [b, h, w] of what is not.
    """

    positive: Float[Array, "b h w"]
    negative: Float[Array, "b h w"]


def fggb(
    enc: Encoding,
    references: Float[AnyArray, "b d"],
    similarity: Similarity = cosine,
    threshold: float | Float[AnyArray, " b"] | None = None,
    *,
    chunk: int = 32,
) -> SignedMaps:
    """Feature-guided gradient backpropagation: one gradient map per embedding dimension.

        w_d = share_d - threshold / dimensions,   g_d = sum_k |pullback(e_d)_k|, of mean 1
        S+  = sum_d relu(w_d) g_d,   S- = sum_d relu(-w_d) g_d

    The means of S+ and S- over positions differ by the score less the threshold, unless a
    dimension has no gradient at all. At a layer that is only averaged afterwards every g_d is
    flat: take an earlier one, or the pixels themselves, `encoder(lambda images: images, model)`,
    as the authors do. How they make gradient maps comparable could not be read; a mean of 1 is
    ours.

    Args:
        enc: the encoded images.
        references: an embedding for each.
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        threshold: the score from which a pair is accepted, one number or [b]; if not given, the
            score itself, which sets dimensions above their mean against those below.
        chunk: how many dimensions are pulled back at a time; memory grows with it.

    Returns:
        `SignedMaps`; zeros where nothing can be said.

    Raises:
        ValueError, TypeError: for arguments of other shapes or types.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.reshape(1, 2))
        >>> enc = encode(jnp.array([[[[2.0], [3.0]]]]))
        >>> maps = fam_jax.fggb(enc, jnp.array([[3.0, -1.0]]), fam_jax.dot, threshold=2.0)
        >>> maps.positive.tolist(), maps.negative.tolist()
        ([[[10.0, 0.0]]], [[[0.0, 8.0]]])

    Source:
        Lu, Xu, Ebrahimi: Explainable Face Verification via Feature-Guided Gradient
        Backpropagation, FG 2024 (2403.04549).
    """
    check_encoding(enc)
    check_float("references", references, "batch dimensions")
    check_count("chunk", chunk)
    shape = enc.embeddings.shape
    if references.shape != shape:
        raise ValueError(f"references have shape {references.shape}, embeddings {shape}")
    if threshold is not None and jnp.shape(threshold) not in ((), shape[:1]):
        raise ValueError(
            f"threshold: expected one number or [{shape[0]}], got shape {jnp.shape(threshold)}"
        )
    return _fggb(enc, references, as_similarity(similarity), threshold, chunk=chunk)


@partial(jax.jit, static_argnames="chunk")
def _fggb(enc, references, similarity, threshold, *, chunk):
    z, r = wide(enc.embeddings, references)
    dimensions = z.shape[1]
    shares = similarity.shares(z, r)
    limit = similarity.score(z, r) if threshold is None else threshold
    limit = jnp.broadcast_to(jnp.asarray(limit, z.dtype), z.shape[:1])
    weights = shares - limit[:, None] / dimensions
    chunk = rows_at_a_time(z, chunk)
    # Dimensions past the last have a weight of zero, and no gradient.
    count = -(-dimensions // chunk)
    ids = jnp.arange(count * chunk).reshape(count, chunk)
    padded = jnp.pad(weights, ((0, 0), (0, count * chunk - dimensions)))
    padded = jnp.moveaxis(padded.reshape(-1, count, chunk), 0, 2)

    def gradient_map(d):
        (G,) = wide(enc.pullback(unit(enc.embeddings, d)))
        g = jnp.sum(jnp.abs(G), axis=-1)
        mean = jnp.mean(g, axis=(1, 2), keepdims=True)
        return g / jnp.where(mean == 0, 1, mean)

    def some(sums, of):
        ids, w = of
        g, w = jax.vmap(gradient_map)(ids), w[:, :, None, None]
        positive, negative = jnp.maximum(w, 0) * g, jnp.maximum(-w, 0) * g
        return (sums[0] + jnp.sum(positive, axis=0), sums[1] + jnp.sum(negative, axis=0)), None

    zeros = vary_with(jnp.zeros(enc.activations.shape[:3], z.dtype), z, r)
    (positive, negative), _ = jax.lax.scan(some, (zeros, zeros), (ids, padded))
    ok = sayable(z) & sayable(r) & jnp.all(jnp.isfinite(positive + negative), axis=(1, 2))
    ok = ok[:, None, None]
    return SignedMaps(jnp.where(ok, positive, 0), jnp.where(ok, negative, 0))
