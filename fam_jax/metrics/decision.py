"""Do maps find what a decision hangs on? Few-shot classes, and same-or-not verification."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fam_jax._core.checks import AnyArray, check_float, wide
from fam_jax._core.encoder import as_embedding
from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.metrics._arguments import (
    IMAGES,
    MAPS,
    check_batch,
    check_between,
    check_booleans,
    check_rank,
    nan_unless_finite,
)
from fam_jax.metrics._pixels import blurred, pixel_ranks


def fewshot_fidelity(
    embed: Callable,
    images: Float[AnyArray, "b *size c"],
    prototypes: Float[AnyArray, "k d"],
    maps: Float[AnyArray, "b *space"],
    similarity: Similarity = cosine,
    *,
    fraction: float | int = 0.2,
    temperature: float | int = 1.0,
) -> Float[Array, " b"]:
    """How much a few-shot decision loses where the map's top pixels are blurred; high is good.

        log p_c(x) - log p_c(x blurred at its top pixels),   c = argmax_k p_k(x)
        p = softmax_k(score(z, prototype_k) / temperature)

    Pixels are ranked as in `deletion`, the blur is that of `insertion`.

    Args:
        prototypes: one for each class.
        maps: for the predicted class.
        fraction: the share of the pixels that is blurred, above 0 and up to 1.
        temperature: of the softmax.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import fewshot_fidelity
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image = jnp.array([[[[1.0], [0.0]]]])
        >>> drop = fewshot_fidelity(embed, image, jnp.eye(2), image[..., 0], fraction=1.0)
        >>> round(float(drop[0]), 2)
        0.15
    """
    check_float("images", images, IMAGES)
    check_float("prototypes", prototypes, "classes dimensions")
    check_float("maps", maps, MAPS)
    check_batch("images", images, maps=maps)
    check_rank("images", images, maps=maps)
    check_between("fraction", fraction, 0, 1)
    check_between("temperature", temperature, 0, float("inf"))
    return _fewshot_fidelity(
        as_embedding(embed),
        images,
        prototypes,
        maps,
        as_similarity(similarity),
        float(temperature),
        fraction=float(fraction),
    )


@partial(jax.jit, static_argnames="fraction")
def _fewshot_fidelity(embed, images, prototypes, maps, similarity, temperature, *, fraction):
    images, prototypes = jnp.asarray(images), jnp.asarray(prototypes)
    size = images.shape[1:-1]
    top = pixel_ranks(maps, size, "most") < max(1, round(fraction * math.prod(size)))

    def log_p(images):
        z = embed(images)
        one = lambda r: similarity.score(z, jnp.broadcast_to(r, z.shape))  # noqa: E731
        scores = jax.vmap(one, out_axes=1)(prototypes)
        return jax.nn.log_softmax(scores / jnp.asarray(temperature, scores.dtype), axis=1)

    before = log_p(images)
    after = log_p(jnp.where(top[..., None], blurred(images), images))
    # A mask and a sum: taking along an axis would gather a sharded batch.
    predicted = jax.nn.one_hot(jnp.argmax(before, axis=1), before.shape[1], dtype=before.dtype)
    return nan_unless_finite(jnp.sum(predicted * (before - after), axis=1), maps)


def eer_threshold(scores: Float[AnyArray, " n"], same: Bool[AnyArray, " n"]) -> Float[Array, ""]:
    """The threshold at which as many pairs are wrongly accepted as wrongly rejected, in shares.

        |share of different pairs with s >= t - share of same pairs with s < t| -> smallest

    Halfway between two scores, of equally good ones the lowest. A share of no pairs counts 0.

    Args:
        scores: similarities of pairs.
        same: whether a pair is of the same identity.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import eer_threshold
        >>> scores = jnp.array([0.9, 0.5, 0.4, 0.1])
        >>> round(float(eer_threshold(scores, jnp.array([True, True, False, False]))), 3)
        0.45
    """
    check_float("scores", scores, "pairs")
    _check_same(scores, same)
    (scores,) = wide(scores)
    return _eer_threshold(scores, jnp.asarray(same))


@jax.jit
def _eer_threshold(scores, same):
    s, order = jax.lax.sort((scores, jax.lax.iota(jnp.int32, len(scores))), num_keys=1)
    positive = same[order].astype(s.dtype)
    # Wrong at each score as the threshold, in sorted order; equal scores are accepted together, so
    # that only the first of them is one.
    rejected = jnp.cumsum(positive) - positive
    accepted = jnp.cumsum((1 - positive)[::-1])[::-1]
    share = lambda part, whole: part / jnp.maximum(jnp.sum(whole), 1)  # noqa: E731
    gap = jnp.abs(share(accepted, 1 - positive) - share(rejected, positive))
    below = jnp.concatenate([s[:1], s[:-1]])
    first = (s > below) | (jnp.arange(len(s)) == 0)
    best = jnp.argmin(jnp.where(first, gap, jnp.inf))
    return (s[best] + below[best]) / 2


def verification_accuracy(
    scores: Float[AnyArray, "n ..."], same: Bool[AnyArray, " n"], threshold: float | Array
) -> Float[Array, "..."]:
    """The share of pairs that a threshold tells right: mean_n 1[(s_n >= threshold) = same_n].

    Of scores [n, steps + 1], the values of a `deletion` or `insertion`, the accuracy along the
    curve. A pair whose score is NaN is left out.

    Args:
        threshold: from `eer_threshold`, on pairs whose pixels are all there.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import verification_accuracy
        >>> same = jnp.array([True, True, False, False])
        >>> float(verification_accuracy(jnp.array([0.9, 0.3, 0.4, 0.1]), same, 0.45))
        0.75

    Source: Accuracy along a deletion: arXiv 2605.12017.
    """
    if not isinstance(scores, AnyArray) or scores.ndim < 1:
        raise TypeError(f"scores: expected an array [pairs ...], got {type(scores).__name__}")
    _check_same(scores, same)
    (s,) = wide(scores)
    same = jnp.asarray(same).reshape(-1, *(1,) * (s.ndim - 1))
    right = ((s >= jnp.asarray(threshold, s.dtype)) == same).astype(s.dtype)
    return jnp.mean(right, axis=0, where=~jnp.isnan(s))


def _check_same(scores: AnyArray, same: AnyArray) -> None:
    check_booleans("same", same, scores.shape[:1], "each pair")
    if scores.shape[0] == 0:
        raise ValueError(f"scores: expected at least one pair, got shape {scores.shape}")
