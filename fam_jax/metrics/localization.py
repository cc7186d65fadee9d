"""Does a map point at the right place? Scores against a mask of where it should.

Mass flatters maps that are signed (what they subtract elsewhere costs nothing), pointing looks at
a single position: read the two together.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fam_jax._checks import AnyArray, check_float, wide


def energy_in(maps: Float[AnyArray, "b h w"], masks: Bool[AnyArray, "b h w"]) -> Float[Array, " b"]:
    """The share of a map's positive mass that lies inside the mask.

        sum_ij relu(M_ij) mask_ij / sum_ij relu(M_ij)

    A map that is positive nowhere says nothing and scores 0. A constant map scores the mask's
    share of the area: compare with that.

    Args:
        maps: raw maps [b, h, w].
        masks: where the maps should be positive, at the maps' resolution.

    Returns:
        Shares [b] in [0, 1], at least float32.

    Raises:
        ValueError, TypeError: if the shapes differ, `maps` is not floating point or `masks` not
            boolean.

    Example:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import energy_in
        >>> maps = jnp.array([[[3.0, 1.0], [-5.0, 0.0]]])
        >>> energy_in(maps, jnp.array([[[True, False], [True, False]]])).tolist()
        [0.75]

    Source:
        Wang et al.: Score-CAM, CVPR workshops 2020, the "energy-based pointing game"; known as
        relevance mass where the map is a relevance.
    """
    _check(maps, masks)
    (maps,) = wide(maps)
    # Scaled to a largest value of 1, so that the sum of a large map doesn't overflow.
    largest = jnp.max(maps, axis=(1, 2), keepdims=True)
    positive = jnp.maximum(maps / jnp.where(largest > 0, largest, 1), 0)
    total = jnp.sum(positive, axis=(1, 2))
    inside = jnp.sum(jnp.where(masks, positive, 0), axis=(1, 2))
    return inside / jnp.where(total > 0, total, 1)


def pointing(maps: Float[AnyArray, "b h w"], masks: Bool[AnyArray, "b h w"]) -> Bool[Array, " b"]:
    """The pointing game: whether a map's largest value lies inside the mask.

        mask at argmax_ij M_ij

    Of equal largest values the first in reading order counts. A constant map points nowhere and
    misses.

    Args:
        maps: raw maps [b, h, w].
        masks: where the maps should point, at the maps' resolution.

    Returns:
        Hits [b].

    Raises:
        ValueError, TypeError: as for `energy_in`.

    Example:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import pointing
        >>> maps = jnp.array([[[3.0, 1.0], [-5.0, 0.0]]])
        >>> pointing(maps, jnp.array([[[True, False], [True, False]]])).tolist()
        [True]

    Source:
        Zhang et al.: Top-Down Neural Attention by Excitation Backprop, IJCV 2018, here without
        its tolerance of 15 pixels.
    """
    _check(maps, masks)
    flat = jnp.reshape(jnp.asarray(maps), (maps.shape[0], -1))
    peak = jnp.argmax(flat, axis=1, keepdims=True)
    hit = jnp.take_along_axis(jnp.reshape(jnp.asarray(masks), flat.shape), peak, axis=1)[:, 0]
    return hit & (jnp.max(flat, axis=1) > jnp.min(flat, axis=1))


def _check(maps: AnyArray, masks: AnyArray) -> None:
    check_float("maps", maps, "batch height width")
    if maps.shape != getattr(masks, "shape", None):
        raise ValueError(
            f"masks: expected the shape of the maps, {maps.shape}, got "
            f"{getattr(masks, 'shape', type(masks).__name__)}"
        )
    if masks.dtype != jnp.bool_:
        raise TypeError(f"masks: expected booleans, got {masks.dtype}")
