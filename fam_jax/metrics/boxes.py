"""Boxes from maps: what a map would have detected.

A box is (left, top, right, bottom) in pixels, right and bottom exclusive.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fam_jax._core.checks import AnyArray, check_float, wide
from fam_jax._core.maps import rescale
from fam_jax.metrics._arguments import (
    PICTURE_MAPS,
    check_batch,
    check_between,
    check_boxes,
    nan_unless_finite,
)


def box_of(maps: Float[AnyArray, "b h w"], threshold: float = 0.5) -> Float[Array, "b 4"]:
    """The tight box around all pixels where the rescaled map is high.

        [rescale(M) >= threshold], not only its largest connected part; 0, 0, 0, 0 if constant

    Args:
        maps: upsample them first for boxes in pixels of the image.
        threshold: above 0 and up to 1.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import box_of
        >>> box_of(jnp.array([[[0.0, 3.0, 0.0], [0.0, 2.0, 1.0]]])).tolist()
        [[1.0, 0.0, 2.0, 2.0]]
    """
    check_float("maps", maps, PICTURE_MAPS)
    check_between("threshold", threshold, 0, 1)
    region = rescale(maps) >= threshold
    lines = [jnp.any(region, axis=axis) for axis in (1, 2)]  # columns, rows
    first = [jnp.argmax(line, axis=1) for line in lines]
    last = [line.shape[1] - jnp.argmax(line[:, ::-1], axis=1) for line in lines]
    boxes = jnp.stack([*first, *last], axis=1).astype(wide(maps)[0].dtype)
    boxes = jnp.where(jnp.any(region, axis=(1, 2))[:, None], boxes, 0)
    return nan_unless_finite(boxes, maps)


def box_iou(a: Float[AnyArray, "b 4"], b: Float[AnyArray, "b 4"]) -> Float[Array, " b"]:
    """Intersection over union of every two boxes; 0 for two empty ones, NaN where a box is.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import box_iou
        >>> a, b = jnp.array([[0.0, 0.0, 2.0, 1.0]]), jnp.array([[1.0, 0.0, 2.0, 1.0]])
        >>> box_iou(a, b).tolist()
        [0.5]
    """
    check_boxes("a", a)
    check_boxes("b", b)
    check_batch("a", a, b=b)
    a, b = wide(a, b)
    low, high = jnp.maximum(a[:, :2], b[:, :2]), jnp.minimum(a[:, 2:], b[:, 2:])
    both = _area(jnp.concatenate([low, high], axis=1))
    union = _area(a) + _area(b) - both
    return both / jnp.where(union > 0, union, 1)


def _area(boxes: Array) -> Array:
    return jnp.prod(jnp.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def box_hit(
    maps: Float[AnyArray, "b h w"],
    boxes: Float[AnyArray, "b 4"],
    threshold: float = 0.5,
    overlap: float = 0.5,
) -> Bool[Array, " b"]:
    """Whether a map's box matches the true one: box_iou(box_of(M), box) >= overlap.

    A constant map misses, and one that is not finite.

    Args:
        boxes: the true boxes [b, 4], in pixels of the maps.
        overlap: the least intersection over union, above 0 and up to 1.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import box_hit
        >>> box_hit(jnp.array([[[0.0, 3.0]]]), jnp.array([[0.0, 0.0, 2.0, 1.0]])).tolist()
        [True]
    """
    check_between("overlap", overlap, 0, 1)
    return box_iou(box_of(maps, threshold), boxes) >= overlap


def box_masks(boxes: Float[AnyArray, "b 4"], size: tuple[int, int]) -> Bool[Array, "b h w"]:
    """The boxes as masks, for `energy_in`, `pointing`, `iou`: pixels whose centre is inside.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import box_masks
        >>> box_masks(jnp.array([[1.0, 0.0, 3.0, 1.0]]), (1, 4)).tolist()
        [[[False, True, True, False]]]
    """
    check_boxes("boxes", boxes)
    left, top, right, bottom = (b[:, None, None] for b in jnp.asarray(boxes).T)
    y, x = (jax.lax.broadcasted_iota(boxes.dtype, (1, *size), axis) + 0.5 for axis in (1, 2))
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)
