"""RISE: the masks that keep the picture alike, added up.

M = sum_i s_i m_i / (N p),   s_i = score of the image times mask m_i
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_count, check_key
from fam_jax._core.encoding import as_embedding
from fam_jax._core.mesh import vary_with
from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.methods.perturbation import (
    check_pairs,
    fold,
    masked,
    sayable_maps,
    score_copies,
    weighted_masks,
    wide_dtype,
)


def rise(
    embed: Callable,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    key: Array,
    similarity: Similarity = cosine,
    *,
    masks: int = 2000,
    cells: int = 7,
    keep: float = 0.5,
    chunk: int = 16,
) -> Float[Array, "b H W"]:
    """The mean score of random masks, weighted at each pixel by how much of it they keep.

        M = sum_i score(z(x * m_i), r) m_i / (N keep)

    A mask is a grid of `cells` x `cells` that are kept with probability `keep`, enlarged
    bilinearly a little beyond the image and shifted at random by up to a cell. What is masked is
    multiplied towards 0, the mean of images that were normalised. The map estimates the expected
    score given that a pixel is kept: it has a large constant part, which `rescale` removes, and an
    error that falls with the square root of `masks`.

    Args:
        embed: images [b, H, W, c] -> embeddings [b, d], or an encoder.
        images: preprocessed images.
        references: an embedding for each image.
        key: a `jax.random.key`; every image sees the same masks, alone as in a batch.
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        masks: N.
        cells: rows and columns of the grid.
        keep: the probability that a cell is kept, above 0 and below 1.
        chunk: masked copies of the whole batch that are embedded at a time; memory does not grow
            with `masks`.

    Returns:
        Raw maps [b, H, W], in units of the score.

    Raises:
        ValueError, TypeError: for arguments of other shapes, types or values.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> mean = lambda images: images.mean((1, 2))
        >>> images, references = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 3))
        >>> fam_jax.rise(mean, images, references, jax.random.key(0), masks=8).shape
        (2, 8, 8)

    Source:
        Petsiuk, Das, Saenko: RISE, BMVC 2018 (arXiv 1806.07421).
    """
    check_pairs(images, references)
    check_key(key)
    for name, value in {"masks": masks, "cells": cells, "chunk": chunk}.items():
        check_count(name, value)
    if not 0 < keep < 1:
        raise ValueError(f"keep: expected a probability above 0 and below 1, got {keep!r}")
    similarity = as_similarity(similarity)
    return _rise(
        as_embedding(embed), images, references, key, similarity,
        masks=masks, cells=cells, keep=float(keep), chunk=chunk,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("masks", "cells", "keep", "chunk"))
def _rise(embed, images, references, key, similarity, *, masks, cells, keep, chunk):
    size = images.shape[1:3]

    def add(total, indices, valid):
        kept = grid_masks(key, indices, size, cells, keep)
        scores = score_copies(embed, similarity, masked(images, kept), references)
        return total + weighted_masks(jnp.where(valid[None], scores, 0), kept), None

    start = jnp.zeros((images.shape[0], *size), wide_dtype(images, references))
    total, _ = fold(add, vary_with(start, images, references), masks, chunk)
    return sayable_maps(total / (masks * keep), references)


def grid_masks(key: Array, indices: Array, size: tuple[int, int], cells: int, keep: float) -> Array:
    """The masks of these numbers [n], in [0, 1], [n, H, W]; each depends on its number alone."""
    cell = [-(-side // cells) for side in size]

    def one(index):
        # The type is named, so that the masks are the same where float64 is enabled.
        draws = jax.random.uniform(
            jax.random.fold_in(key, index), (2 + cells * cells,), jnp.float32
        )
        grid = draws[2:].reshape(cells, cells) < keep
        large = jax.image.resize(
            grid.astype(jnp.float32), [(cells + 1) * side for side in cell], "bilinear"
        )
        shift = jnp.floor(draws[:2] * jnp.array(cell, jnp.float32))
        return jax.lax.dynamic_slice(large, shift.astype(jnp.int32), size)

    return jax.vmap(one)(indices)
