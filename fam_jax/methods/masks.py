"""Random masks of the picture: the scores of what they leave, put together again."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fam_jax._core.axes import map_axes, spread
from fam_jax._core.checks import check_count
from fam_jax._core.chunks import fold_chunks
from fam_jax._core.encoder import as_embedding
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.baselines import key_or_first
from fam_jax.methods.method import Method
from fam_jax.methods.perturbation import (
    IMAGES,
    floats,
    masked,
    outer_and,
    score_copies,
    sum_of_masks,
    weighted_masks,
    wide_dtype,
    zeros,
)


def rise(
    similarity: Similarity = cosine,
    *,
    masks: int = 2000,
    cells: int = 7,
    keep: float = 0.5,
    chunk: int = 16,
    key: Array | None = None,
) -> Method:
    """RISE: the mean score of random masks, weighted at each pixel by how much of it they keep.

        M = sum_i score(z(x * m_i), r) m_i / (N keep)

    A mask is a grid of `cells` x `cells` (or along the one axis, or all three, of other inputs)
    that are kept with probability `keep`, enlarged
    bilinearly a little beyond the image and shifted at random by up to a cell. What is masked is
    multiplied towards 0, the mean of images that were normalised. The map estimates the expected
    score given that a pixel is kept: it has a large constant part, which `rescale` removes, and an
    error that falls with the square root of `masks`.

    Args:
        masks: N.
        cells: rows and columns of the grid.
        keep: the probability that a cell is kept, above 0 and below 1.
        similarity, chunk, key: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda x: x.mean((1, 2)))
        >>> images, references = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 3))
        >>> fam_jax.explain(encode, images, references, fam_jax.rise(masks=8)).maps.shape
        (2, 8, 8)

    Source: Petsiuk, Das, Saenko: RISE, BMVC 2018 (arXiv 1806.07421).
    """
    counts = {"masks": masks, "cells": cells, "chunk": chunk}
    for name, count in counts.items():
        check_count(name, count)
    if not 0 < keep < 1:
        raise ValueError(f"keep: expected a probability above 0 and below 1, got {keep!r}")
    maps = partial(_rise, key=key_or_first(key), keep=float(keep), **counts)
    return Method(similarity, maps, IMAGES)


def _rise(similarity, enc, references, *, key, masks, cells, keep, chunk):
    images, embed = floats(enc.images), as_embedding(enc.encoder)

    def scored(numbers: Array) -> tuple[Array, Array]:
        kept = grid_masks(key, numbers, images.shape[1:-1], cells, keep)
        return score_copies(embed, similarity, masked(images, kept), references), kept

    return sum_of_masks(scored, images, references, masks, chunk) / (masks * keep)


def grid_masks(key: Array, indices: Array, size: tuple[int, ...], cells: int, keep: float) -> Array:
    """The masks of these numbers [n], in [0, 1], [n, *size]; each depends on its number alone."""
    cell, rank = [-(-side // cells) for side in size], len(size)

    def one(index):
        # The type is named, so that the masks are the same where float64 is enabled.
        own = jax.random.fold_in(key, index)
        draws = jax.random.uniform(own, (rank + cells**rank,), jnp.float32)
        grid = (draws[rank:].reshape((cells,) * rank) < keep).astype(jnp.float32)
        large = jax.image.resize(grid, [(cells + 1) * side for side in cell], "bilinear")
        shift = jnp.floor(draws[:rank] * jnp.array(cell, jnp.float32))
        return jax.lax.dynamic_slice(large, shift.astype(jnp.int32), size)

    return jax.vmap(one)(indices)


def corr_rise(
    similarity: Similarity = cosine,
    *,
    masks: int = 500,
    patches: int = 3,
    patch: int | None = None,
    chunk: int = 16,
    key: Array | None = None,
) -> Method:
    """CorrRISE: Pearson's correlation between a pixel's visibility and the similarity.

        M_x = corr_i(m_i(x), score(z(x * m_i), r))

    A mask is 0 in square patches at random places and 1 elsewhere. Positive: showing the pixel
    makes the pair more alike; negative: less; 0: it was always or never visible. The reference's
    image stays whole; for its own map exchange the roles.

    Args:
        masks: how many.
        patches: in each mask; they may overlap, and lie inside the image.
        patch: a patch's side in pixels; 30 for each 112 of the image's shorter side if not given.
        similarity, chunk, key: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda x: x.mean((1, 2)))
        >>> image = jnp.array([[[[1.0], [0.0]], [[0.0], [0.0]]]])  # one pixel is all there is
        >>> method = fam_jax.corr_rise(fam_jax.dot, masks=20, patches=1)
        >>> fam_jax.explain(encode, image, jnp.ones((1, 1)), method).maps[0, 0, 0].round(3).item()
        1.0

    Source: Lu, Xu, Ebrahimi: Towards Visual Saliency Explanations of Face Verification, WACV
        2024; numbers of masks and patches from github.com/AIML-IfI/fame, which correlates ranks.
    """
    counts = {"masks": masks, "patches": patches, "chunk": chunk}
    for name, count in counts.items():
        check_count(name, count)
    if patch is not None:
        check_count("patch", patch)
    maps = partial(_corr_rise, key=key_or_first(key), patch=patch, **counts)
    return Method(similarity, maps, IMAGES)


def _corr_rise(similarity, enc, references, *, key, masks, patches, patch, chunk):
    images, embed = floats(enc.images), as_embedding(enc.encoder)
    b, size, dtype = images.shape[0], images.shape[1:-1], wide_dtype(images, references)
    patch = patch or max(1, round(min(size) * 30 / 112))
    check_count("patch", patch, min(size))

    def add(total: tuple[Array, ...], numbers: Array, valid: Array) -> tuple[Array, ...]:
        m = patch_masks(key, numbers, size, patches, patch)
        s = score_copies(embed, similarity, masked(images, m), references)
        return _merge(total, _moments(s, m.astype(dtype), valid.astype(dtype)))

    shapes = (), (b,), size, (b,), size, (b, *size)
    start = tuple(zeros(shape, images, references) for shape in shapes)
    moments = fold_chunks(add, start, np.arange(masks, dtype=np.int32), chunk)
    count, mean, _, s_square, m_square, product = moments
    # Scores that are constant up to rounding are constant: their correlation would be noise.
    rounding = 8 * jnp.finfo(dtype).eps * jnp.abs(mean)
    s_varies = spread(s_square > count * rounding**2, map_axes(product))
    m_varies = (m_square > 0)[None]
    s_scale = jnp.sqrt(jnp.where(s_varies, spread(s_square, map_axes(product)), 1))
    m_scale = jnp.sqrt(jnp.where(m_varies, m_square[None], 1))
    return jnp.where(s_varies & m_varies, product / s_scale / m_scale, 0)


def _moments(s, m, valid):
    """Count, means and sums of products about the means of a chunk: s [b, n], m [n, *space]."""
    count = jnp.sum(valid)
    s_mean = jnp.sum(s * valid[None], axis=1) / count
    of_masks = spread(valid, map_axes(m))
    m_mean = jnp.sum(m * of_masks, axis=0) / count
    s = (s - s_mean[:, None]) * valid[None]
    m = (m - m_mean[None]) * of_masks
    squares = jnp.sum(s * s, axis=1), jnp.sum(m * m, axis=0)
    return count, s_mean, m_mean, *squares, weighted_masks(s, m)


def _merge(a, b):
    """The moments of two sets together without cancellation, as Chan, Golub, LeVeque (1983)."""
    count = a[0] + b[0]
    s, m = b[1] - a[1], b[2] - a[2]
    weight = a[0] * b[0] / count
    return (
        count,
        a[1] + s * (b[0] / count),
        a[2] + m * (b[0] / count),
        a[3] + b[3] + s * s * weight,
        a[4] + b[4] + m * m * weight,
        a[5] + b[5] + spread(s, map_axes(a[5])) * m[None] * weight,
    )


def patch_masks(
    key: Array, indices: Array, size: tuple[int, ...], patches: int, patch: int
) -> Array:
    """The masks of these numbers [n], False in the patches, [n, *size]."""

    def one(index):
        # The type is named, so that the masks are the same where float64 is enabled.
        draws = jax.random.uniform(
            jax.random.fold_in(key, index), (len(size), patches, 1), jnp.float32
        )
        within = [_inside(u, n, patch) for u, n in zip(draws, size, strict=True)]
        return ~jnp.any(outer_and(within), axis=0)

    return jax.vmap(one)(indices)


def _inside(draws, side, patch):
    start = jnp.floor(draws * (side - patch + 1)).astype(jnp.int32)
    pixels = jnp.arange(side, dtype=jnp.int32)[None]
    return (pixels >= start) & (pixels < start + patch)
