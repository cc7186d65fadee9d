"""What the methods that change the picture share: changed copies, their scores, sums of masks."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fam_jax._core.chunks import fold_chunks
from fam_jax._core.mesh import vary_with
from fam_jax._core.similarity import Similarity

IMAGES = frozenset({"images"})  # what all of them need


def wide_dtype(images: Array, references: Array) -> Any:
    """What the scores and maps of these are computed in: float32, or float64 if one of them is."""
    return jnp.float64 if jnp.float64 in (images.dtype, references.dtype) else jnp.float32


def score_copies(
    embed: Callable[[Array], Array], similarity: Similarity, copies: Array, references: Array
) -> Array:
    """Scores [b, n] of n changed copies [b, n, *space, c] of each image, all embedded at once."""
    b, n = copies.shape[:2]
    # The images' axis stays in front, so that a batch sharded over devices is not moved.
    z = embed(copies.reshape(b * n, *copies.shape[2:]))
    if z.shape != (b * n, references.shape[1]):
        raise ValueError(
            f"references have shape {references.shape}, but embed gives shape {z.shape} for "
            f"{b * n} images"
        )
    r = jnp.broadcast_to(references[:, None], (b, n, references.shape[1])).reshape(z.shape)
    return similarity.score(z, r).reshape(b, n).astype(wide_dtype(copies, references))


def floats(images: Array) -> Array:
    """The inputs, if they are numbers along positions, which can be changed a little."""
    if images.ndim < 3 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            "images: this method changes the inputs, which must be floating-point numbers "
            f"[batch *space channels], got {images.dtype} of shape {images.shape}"
        )
    return images


def masked(images: Array, masks: Array) -> Array:
    """Copies [b, n, *space, c] of the images times masks [n, *space] or [b, n, *space]."""
    masks = masks[None] if masks.ndim < images.ndim else masks
    return images[:, None] * masks[..., None].astype(images.dtype)


def outer_and(within: Sequence[Array]) -> Array:
    """Whether a position is within along every axis: [n, side] of each -> [n, *sides]."""
    rank = len(within)
    others = ([k + 1 for k in range(rank) if k != axis] for axis in range(rank))
    return reduce(jnp.logical_and, map(jnp.expand_dims, within, others))


def sum_of_masks(
    scored: Callable[[Array], tuple[Array, Array]],
    images: Array,
    references: Array,
    count: int,
    chunk: int,
) -> Array:
    """sum_n s_n m_n of `count` masks, [b, *space]; scored: numbers [n] -> s [b, n], masks."""

    def add(total: Array, numbers: Array, valid: Array) -> Array:
        scores, masks = scored(numbers)
        return total + weighted_masks(jnp.where(valid[None], scores, 0), masks)

    start = zeros(images.shape[:-1], images, references)
    return fold_chunks(add, start, np.arange(count, dtype=np.int32), chunk)


def zeros(shape: tuple[int, ...], images: Array, references: Array) -> Array:
    """Zeros to add up what is computed of these."""
    return vary_with(jnp.zeros(shape, wide_dtype(images, references)), images, references)


def weighted_masks(weights: Array, masks: Array) -> Array:
    """sum_n weights_bn masks_n, [b, n], [n, *space] -> [b, *space]."""
    return jnp.einsum("bn,n...->b...", weights, masks.astype(weights.dtype), precision="highest")
