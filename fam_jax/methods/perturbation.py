"""What the methods that change the picture share: changed copies, their scores, sums in chunks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fam_jax._core.similarity import Similarity

IMAGES = frozenset({"images"})  # what all of them need


def wide_dtype(images: Array, references: Array) -> Any:
    """What the scores and maps of these are computed in: float32, or float64 if one of them is."""
    return jnp.float64 if jnp.float64 in (images.dtype, references.dtype) else jnp.float32


def score_copies(
    embed: Callable[[Array], Array], similarity: Similarity, copies: Array, references: Array
) -> Array:
    """Scores [b, n] of n changed copies [b, n, H, W, c] of each image, all embedded at once."""
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


def masked(images: Array, masks: Array) -> Array:
    """Copies [b, n, H, W, c] of the images times masks [n, H, W] or [b, n, H, W]."""
    masks = masks[None] if masks.ndim == 3 else masks
    return images[:, None] * masks[..., None].astype(images.dtype)


def fold(step: Callable, start: Any, count: int, chunk: int) -> tuple[Any, Any]:
    """`jax.lax.scan` of `step(carry, indices [n], valid [n])` over 0 .. count - 1, n <= chunk.

    All chunks have one size, so that the network in `step` is compiled once and memory does not
    grow with `count`; where `count` does not divide, the last index is repeated, not valid.
    """
    rounds = -(-count // chunk)
    size = -(-count // rounds)
    indices = jnp.asarray(np.arange(rounds * size).reshape(rounds, size), jnp.int32)
    return jax.lax.scan(
        lambda carry, i: step(carry, jnp.minimum(i, count - 1), i < count), start, indices
    )


def weighted_masks(weights: Array, masks: Array) -> Array:
    """sum_n weights_bn masks_n, [b, n], [n, H, W] -> [b, H, W]."""
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bn,nhw->bhw", weights, masks.astype(weights.dtype), precision=highest)
