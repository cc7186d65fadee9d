"""FGGB: where the embedding dimensions that agree, and those that do not, look."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.axes import map_axes, spread
from fam_jax._core.checks import AnyArray, check_choice, check_count, check_plain, wide
from fam_jax._core.chunks import fold_chunks
from fam_jax._core.mesh import vary_with
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.jacobian import rows_at_a_time, unit
from fam_jax.methods.method import Method

_SIGNS = {"positive": jax.nn.relu, "negative": lambda w: jax.nn.relu(-w), "both": lambda w: w}


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
    as the authors do. How they make gradient maps comparable could not be read: 1 is our mean.

    Args:
        threshold: the score from which a pair is accepted, one number or [b]; if not given, the
            score itself, which sets dimensions above their mean against those below.
        sign: "positive" is S+, what speaks for the pair; "negative" S-, what speaks against it;
            "both" S+ - S-.
        similarity, chunk: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.reshape(1, 2))
        >>> enc = encode(jnp.array([[[[2.0], [3.0]]]]))
        >>> fam_jax.fggb(fam_jax.dot, threshold=2.0)(enc, jnp.array([[3.0, -1.0]])).tolist()
        [[[10.0, 0.0]]]

    Source: Lu, Xu, Ebrahimi: Feature-Guided Gradient Backpropagation, FG 2024 (2403.04549).
    """
    check_choice("sign", sign, _SIGNS)
    check_count("chunk", chunk)
    if threshold is not None:
        check_plain("threshold", threshold)
        threshold = jnp.asarray(threshold)
        if threshold.ndim > 1:
            raise ValueError(f"threshold: expected one number or [b], got shape {threshold.shape}")
    return Method(similarity, partial(_fggb, threshold=threshold, sign=sign, chunk=chunk))


def _fggb(similarity, enc, references, *, threshold, sign, chunk):
    z, r = wide(enc.embeddings, references)
    limit = similarity.score(z, r) if threshold is None else threshold
    if limit.shape not in ((), z.shape[:1]):
        raise ValueError(
            f"threshold: expected one number or [{z.shape[0]}], got shape {limit.shape}"
        )
    limit = jnp.broadcast_to(limit.astype(z.dtype), z.shape[:1])[:, None]
    weights = _SIGNS[sign](similarity.shares(z, r) - limit / z.shape[1])

    def gradient_map(d: Array) -> Array:
        (G,) = wide(enc.pullback(unit(enc.embeddings, d)))
        g = jnp.sum(jnp.abs(G), axis=-1)
        mean = jnp.mean(g, axis=map_axes(g), keepdims=True)
        return g / jnp.where(mean == 0, 1, mean)

    def add(total: Array, rows: tuple[Array, Array], valid: Array) -> Array:
        dimensions, w = rows
        w = spread(jnp.where(valid[:, None], w, 0), tuple(range(2, total.ndim + 1)))
        return total + jnp.sum(w * jax.vmap(gradient_map)(dimensions), axis=0)

    zeros = vary_with(jnp.zeros(enc.activations.shape[:-1], z.dtype), z, r)
    rows = jnp.arange(z.shape[1]), weights.T
    return fold_chunks(add, zeros, rows, rows_at_a_time(z, chunk))
