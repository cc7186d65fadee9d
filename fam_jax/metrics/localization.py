"""Does a map point at the right place? Scores against a mask of where it should.

Mass flatters maps that are signed (what they subtract elsewhere costs nothing), pointing looks at
a single position: read the two together.
"""

import math
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fam_jax._core.axes import map_axes, spread
from fam_jax._core.checks import AnyArray, check_float, wide
from fam_jax._core.maps import rescale
from fam_jax.metrics._arguments import MAPS, check_between, check_booleans, nan_unless_finite
from fam_jax.metrics._pixels import pixel_ranks


def energy_in(
    maps: Float[AnyArray, "b *space"], masks: Bool[AnyArray, "b *space"]
) -> Float[Array, " b"]:
    """The share of a map's positive mass that lies inside the mask.

        sum_ij relu(M_ij) mask_ij / sum_ij relu(M_ij)

    A map that is positive nowhere says nothing and scores 0; a constant one scores the mask's
    share of the area: compare with that.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import energy_in
        >>> maps = jnp.array([[[3.0, 1.0], [-5.0, 0.0]]])
        >>> energy_in(maps, jnp.array([[[True, False], [True, False]]])).tolist()
        [0.75]

    Source: Wang et al.: Score-CAM, CVPR workshops 2020, the "energy-based pointing game"; known as
    relevance mass where the map is a relevance.
    """
    _check(maps, masks)
    return _energy_in(maps, masks)


@jax.jit
def _energy_in(maps: Array, masks: Array) -> Array:
    (maps,) = wide(maps)
    # Scaled to a largest value of 1, so that the sum of a large map doesn't overflow.
    largest = jnp.max(maps, axis=map_axes(maps), keepdims=True)
    positive = jnp.maximum(maps / jnp.where(largest > 0, largest, 1), 0)
    total = jnp.sum(positive, axis=map_axes(maps))
    inside = jnp.sum(jnp.where(masks, positive, 0), axis=map_axes(maps))
    return nan_unless_finite(inside / jnp.where(total > 0, total, 1), maps)


def pointing(
    maps: Float[AnyArray, "b *space"], masks: Bool[AnyArray, "b *space"], tolerance: float | int = 0
) -> Bool[Array, " b"]:
    """The pointing game: whether a map's largest value lies inside the mask, or near enough.

        any_ij mask_ij and |(i, j) - argmax M| <= tolerance

    Of equal largest values the first in reading order counts. A constant map points nowhere and
    misses, and so does one that is not finite.

    Args:
        tolerance: how far from the mask is still a hit, in pixels of the maps; the game was
            published with 15, on maps of the images' size.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import pointing
        >>> maps = jnp.array([[[3.0, 1.0], [-5.0, 0.0]]])
        >>> pointing(maps, jnp.array([[[True, False], [True, False]]])).tolist()
        [True]

    Source: Zhang et al.: Top-Down Neural Attention by Excitation Backprop, IJCV 2018.
    """
    _check(maps, masks)
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected 0 or more pixels, got {tolerance}")
    most = math.floor(min(tolerance, sum(maps.shape[1:])) ** 2)
    return _pointing(maps, masks, most)


@partial(jax.jit, static_argnums=2)
def _pointing(maps: Array, masks: Array, most: int) -> Array:
    axes, flat = map_axes(maps), jnp.reshape(maps, (maps.shape[0], -1))
    peak = jnp.unravel_index(jnp.argmax(flat, axis=1), maps.shape[1:])
    away = (
        jax.lax.broadcasted_iota(at.dtype, (1, *maps.shape[1:]), axis) - spread(at, axes)
        for axis, at in zip(axes, peak, strict=True)
    )
    square = reduce(jnp.add, (offset**2 for offset in away))
    hit = jnp.any((square <= most) & masks, axis=axes)
    return hit & (jnp.max(flat, axis=1) > jnp.min(flat, axis=1))


def iou(
    maps: Float[AnyArray, "b *space"], masks: Bool[AnyArray, "b *space"], threshold: float = 0.5
) -> Float[Array, " b"]:
    """Intersection over union of the mask and the region where the rescaled map is high.

        |R and mask| / |R or mask|,   R = [rescale(M) >= threshold]; 0 for a constant map

    Args:
        threshold: above 0 and up to 1; usual are 0.3, 0.5 and 0.7.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import iou
        >>> maps = jnp.array([[[3.0, 1.0], [-5.0, -5.0]]])
        >>> round(float(iou(maps, jnp.array([[[True, False], [True, False]]]))[0]), 3)
        0.333
    """
    _check(maps, masks)
    check_between("threshold", threshold, 0, 1)
    return _iou(maps, masks, threshold)


@partial(jax.jit, static_argnums=2)
def _iou(maps: Array, masks: Array, threshold: float) -> Array:
    axes = map_axes(maps)
    region = rescale(maps, axes=axes) >= threshold
    count = lambda x: jnp.sum(x, axis=axes, dtype=wide(maps)[0].dtype)  # noqa: E731
    union = count(region | masks)
    return nan_unless_finite(count(region & masks) / jnp.where(union > 0, union, 1), maps)


def rank_in(
    maps: Float[AnyArray, "b *space"], masks: Bool[AnyArray, "b *space"]
) -> Float[Array, " b"]:
    """The share of a map's top k pixels that lie inside the mask, k being the mask's size.

    Of equal pixels at the border of the top k, those are taken that `deletion` takes first, so
    that a constant map scores about the mask's share of the area. An empty mask scores 0.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import rank_in
        >>> maps = jnp.array([[[3.0, 1.0], [-5.0, 0.0]]])
        >>> rank_in(maps, jnp.array([[[True, False], [True, False]]])).tolist()
        [0.5]

    Source: Arras, Osman, Samek: CLEVR-XAI, Information Fusion 2022, "relevance rank accuracy".
    """
    _check(maps, masks)
    return _rank_in(maps, masks)


@jax.jit
def _rank_in(maps: Array, masks: Array) -> Array:
    ranks = pixel_ranks(maps, maps.shape[1:], "most")
    axes = map_axes(maps)
    size = jnp.sum(masks, axis=axes, dtype=ranks.dtype)
    top = (ranks < spread(size, axes)) & masks
    inside = jnp.sum(top, axis=axes, dtype=wide(maps)[0].dtype)
    return nan_unless_finite(inside / jnp.maximum(size, 1).astype(inside.dtype), maps)


def _check(maps: AnyArray, masks: AnyArray) -> None:
    check_float("maps", maps, MAPS)
    check_booleans("masks", masks, maps.shape, "each value of the maps")
