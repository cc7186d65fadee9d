"""FGGB: where the embedding dimensions that agree, and those that do not, look.

g_d = sum_k |pullback(e_d)_k|, divided by its mean over positions
S   = sum_d g_d (share_d - threshold / dimensions) = S+ - S-
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_choice, check_count, wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.mesh import vary_with
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.jacobian import rows_at_a_time, unit
from fam_jax.methods.method import Method


def fggb(
    similarity: Similarity = cosine,
    *,
    threshold: float | Float[AnyArray, " b"] | None = None,
    sign: str = "positive",
    chunk: int = 32,
) -> Method:
    """Feature-guided gradient backpropagation: one gradient map per embedding dimension.

        w_d = share_d - threshold / dimensions,   g_d = sum_k |pullback(e_d)_k|, of mean 1
        S+  = sum_d relu(w_d) g_d,   S- = sum_d relu(-w_d) g_d

    The means of S+ and S- over positions differ by the score less the threshold, unless a
    dimension has no gradient at all. At a layer that is only averaged afterwards every g_d is
    flat: take an earlier one, or the pixels themselves, `encoder(lambda images: images, model)`,
    as the authors do. How they make gradient maps comparable could not be read; a mean of 1 is
    ours.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        threshold: the score from which a pair is accepted, one number or [b]; if not given, the
            score itself, which sets dimensions above their mean against those below.
        sign: "positive" is S+, what speaks for the pair; "negative" S-, what speaks against it;
            "both" S+ - S-.
        chunk: how many dimensions are pulled back at a time; memory grows with it.

    Returns:
        A `Method`: raw maps [b, h, w], not negative but for "both".

    Raises:
        ValueError, TypeError: for other arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.reshape(1, 2))
        >>> enc = encode(jnp.array([[[[2.0], [3.0]]]]))
        >>> fam_jax.fggb(fam_jax.dot, threshold=2.0)(enc, jnp.array([[3.0, -1.0]])).tolist()
        [[[10.0, 0.0]]]
        >>> against = fam_jax.fggb(fam_jax.dot, threshold=2.0, sign="negative")
        >>> against(enc, jnp.array([[3.0, -1.0]])).tolist()
        [[[0.0, 8.0]]]

    Source:
        Lu, Xu, Ebrahimi: Explainable Face Verification via Feature-Guided Gradient
        Backpropagation, FG 2024 (2403.04549).
    """
    check_choice("sign", sign, _SIGNS)
    check_count("chunk", chunk)
    if threshold is not None:
        threshold = jnp.asarray(threshold)
        if threshold.ndim > 1:
            raise ValueError(f"threshold: expected one number or [b], got shape {threshold.shape}")
    return Method(similarity, _Fggb(threshold, sign, chunk))


@partial(register_dataclass, data_fields=["threshold"], meta_fields=["sign", "chunk"])
@dataclass(frozen=True)
class _Fggb:
    threshold: Any
    sign: str
    chunk: int

    def __call__(self, similarity: Similarity, enc: Encoding, references: Array) -> Array:
        z, r = wide(enc.embeddings, references)
        dimensions = z.shape[1]
        weights = similarity.shares(z, r) - self._limit(similarity, z, r) / dimensions
        chunk = rows_at_a_time(z, self.chunk)
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

        def some(total, of):
            ids, w = of
            g, w = jax.vmap(gradient_map)(ids), _SIGNS[self.sign](w[:, :, None, None])
            return total + jnp.sum(w * g, axis=0), None

        zeros = vary_with(jnp.zeros(enc.activations.shape[:3], z.dtype), z, r)
        return jax.lax.scan(some, zeros, (ids, padded))[0]

    def _limit(self, similarity: Similarity, z: Array, r: Array) -> Array:
        """The threshold of every pair, [b, 1]."""
        limit = similarity.score(z, r) if self.threshold is None else self.threshold
        if limit.shape not in ((), z.shape[:1]):
            raise ValueError(
                f"threshold: expected one number or [{z.shape[0]}], got shape {limit.shape}"
            )
        return jnp.broadcast_to(limit.astype(z.dtype), z.shape[:1])[:, None]


_SIGNS = {
    "positive": lambda w: jnp.maximum(w, 0),
    "negative": lambda w: jnp.maximum(-w, 0),
    "both": lambda w: w,
}
