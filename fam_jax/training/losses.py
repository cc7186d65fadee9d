"""Losses on maps: where a map should lie, what two views should agree on, how smooth it should be.

A number for every raw map, [b]; the same for a map and its multiple, so that no weight has to
follow the scale of the maps; finite, as is the gradient, for a map that is zero.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fam_jax._core.axes import map_axes
from fam_jax._core.checks import AnyArray, check_float, check_plain, wide
from fam_jax._core.maps import check_size, upsample
from fam_jax._core.similarity import cosine
from fam_jax.metrics import energy_in

MAPS = "batch *space"


def energy_outside(
    maps: Float[AnyArray, "b *space"], masks: Bool[AnyArray, "b *size"]
) -> Float[Array, " b"]:
    """The share of a map's positive mass that lies outside the mask.

        sum_ij relu(M_ij) [not mask_ij] / sum_ij relu(M_ij);   0 for a map that is positive nowhere

    Only positive values count: for signed maps take the loss of their absolute values, or of
    maps that are not negative.

    Args:
        masks: where the maps may be positive, at their resolution or another (the images', say),
            to which the maps are upsampled.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.training import energy_outside
        >>> maps = jnp.array([[[3.0, 1.0], [-5.0, 0.0]]])
        >>> energy_outside(maps, jnp.array([[[True, False], [True, False]]])).tolist()
        [0.25]

    Source: Ross, Hughes, Doshi-Velez: Right for the Right Reasons, IJCAI 2017, penalise the squared
    gradients outside a mask; the share of the mass is that of `metrics.energy_in`.
    """
    check_float("maps", maps, MAPS)
    check_plain("masks", masks)
    masks, axes = jnp.asarray(masks), "height, width" if maps.ndim == 3 else "*space"
    if masks.ndim != maps.ndim or masks.shape[0] != maps.shape[0] or masks.dtype != bool:
        raise ValueError(
            f"masks: expected booleans [{maps.shape[0]}, {axes}] for maps {maps.shape}, "
            f"got {masks.dtype} of shape {masks.shape}"
        )
    if masks.shape != maps.shape:
        # What is negative must not eat into what is positive beside it.
        maps = upsample(jnp.maximum(jnp.asarray(maps), 0), masks.shape[1:])
    return energy_in(maps, ~masks)


def disagreement(
    maps: Float[AnyArray, "b *space"], others: Float[AnyArray, "b *space"]
) -> Float[Array, " b"]:
    """How far two maps are from being multiples of each other: 1 - cosine.

        1 - sum_ij M_ij N_ij / (||M|| ||N||),   from 0 to 2; 1 if one of both is zero

    With a view T of the images, the loss of equivariance: `disagreement(maps of T(images),
    T(maps of images))`. A flip is `maps[:, :, ::-1]`; `crop` does crops.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.training import disagreement
        >>> maps = jnp.array([[[3.0, 4.0]]])
        >>> [round(float(disagreement(maps, n)[0]), 2) for n in (-2 * maps, maps[..., ::-1])]
        [2.0, 0.04]

    Source: Wang et al.: Self-supervised Equivariant Attention Mechanism, CVPR 2020 (arXiv
    2004.04581), with a cosine for their L1 distance of rescaled maps.
    """
    check_float("maps", maps, MAPS)
    check_float("others", others, MAPS)
    if maps.shape != others.shape:
        raise ValueError(f"maps of shape {maps.shape} but others of shape {others.shape}")
    return 1 - cosine.score(*(x.reshape(x.shape[0], -1) for x in (maps, others)))


def total_variation(maps: Float[AnyArray, "b *space"]) -> Float[Array, " b"]:
    """How much a map changes from cell to cell, for its mass.

        (sum_ij |M_ij - M_i+1,j| + sum_ij |M_ij - M_i,j+1|) / sum_ij |M_ij|

    0 for a constant map, 4 for a single cell amid zeros. Along every axis, whatever their number.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.training import total_variation
        >>> total_variation(jnp.zeros((1, 3, 3)).at[0, 1, 1].set(7.0)).tolist()
        [4.0]

    Source: Rudin, Osher, Fatemi: Nonlinear total variation based noise removal, Physica D 1992; the
    sum over both directions, divided by the mass.
    """
    check_float("maps", maps, MAPS)
    return _total_variation(maps)


@jax.jit
def _total_variation(maps: Array) -> Array:
    (maps,) = wide(maps)
    axes = map_axes(maps)
    maps = maps / _nonzero(jnp.max(jnp.abs(maps), axis=axes, keepdims=True))
    steps = [jnp.sum(jnp.abs(jnp.diff(maps, axis=axis)), axis=axes) for axis in axes]
    return reduce(jnp.add, steps) / _nonzero(jnp.sum(jnp.abs(maps), axis=axes))


def crop(
    maps: Float[AnyArray, "b h w"], boxes: Float[AnyArray, "b 4"], size: tuple[int, ...]
) -> Float[Array, "b H W"]:
    """The part of every map inside a box, bilinearly resampled: a map as a crop would see it.

    For `disagreement`, where the images' view is a crop and a resize. Cells beyond the map's edge
    count as zero; for the box 0, 0, 1, 1 this is `upsample`.

    Args:
        boxes: left, top, right, bottom as shares of the width and the height, 0 to 1.
        size: (H, W), cells of the result.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.training import crop
        >>> right = jnp.array([[0.5, 0.0, 1.0, 1.0]])
        >>> crop(jnp.array([[[1.0, 2.0, 3.0, 4.0]]]), right, (1, 2)).tolist()
        [[[3.0, 4.0]]]
    """
    check_float("maps", maps, "batch height width")
    check_float("boxes", boxes, "batch 4")
    check_size(size)
    if len(size) != 2:
        raise ValueError(f"size: expected (height, width), got {size!r}")
    if boxes.shape != (maps.shape[0], 4):
        raise ValueError(
            f"boxes: expected [{maps.shape[0]}, 4] for maps {maps.shape}, got shape {boxes.shape}"
        )
    return _crop(maps, boxes, tuple(map(int, size)))


@partial(jax.jit, static_argnums=2)
def _crop(maps: Array, boxes: Array, size: tuple[int, ...]) -> Array:
    maps, boxes = wide(maps, boxes)
    before, after = (jnp.array(shape, maps.dtype) for shape in (maps.shape[1:], size))

    def one(m, box):
        low, high = box[1::-1], box[:1:-1]  # top and left, bottom and right
        scale = after / (before * (high - low))
        shift = -low * after / (high - low)
        return jax.image.scale_and_translate(
            m, size, (0, 1), scale, shift, "linear", antialias=False
        )

    return jax.vmap(one)(maps, boxes)


def _nonzero(x):
    return jnp.where(x == 0, 1, x)
