"""How far are the matches of a map from the true ones?"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fam_jax._core.checks import AnyArray, check_float, wide
from fam_jax.metrics._arguments import check_booleans, nan_unless_finite


def endpoint_error(
    correspondences: Float[AnyArray, "b h w 2"],
    truth: Float[AnyArray, "b h w 2"],
    valid: Bool[AnyArray, "b h w"] | None = None,
) -> Float[Array, " b"]:
    """The mean distance between the matches of points and their true places.

        mean over valid (i, j) of ||c_ij - t_ij||_2, in pixels; NaN without a valid point

    Args:
        correspondences: for each point of one image, a position (or a shift) in the other, in
            pixels.
        truth: the same from a true disparity, in the same units.
        valid: the points that count; all if not given. What the others hold doesn't matter.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import endpoint_error
        >>> endpoint_error(jnp.array([[[[3.0, 4.0]]]]), jnp.zeros((1, 1, 1, 2))).tolist()
        [5.0]
    """
    check_float("correspondences", correspondences, "batch height width 2")
    check_float("truth", truth, "batch height width 2")
    if correspondences.shape != truth.shape or truth.shape[3] != 2:
        raise ValueError(
            f"correspondences have shape {correspondences.shape}, truth {truth.shape}: both "
            "[batch, height, width, 2] are expected"
        )
    if valid is None:
        valid = jnp.ones(truth.shape[:3], bool)
    check_booleans("valid", valid, truth.shape[:3], "each point")
    correspondences, truth = wide(correspondences, truth)
    # Zeros, not only a mask on the result: a NaN there would still reach the gradient.
    difference = jnp.where(jnp.asarray(valid)[..., None], correspondences - truth, 0)
    square = jnp.sum(difference * difference, axis=3)
    distance = jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))
    count = jnp.sum(valid, axis=(1, 2), dtype=distance.dtype)
    mean = jnp.sum(distance, axis=(1, 2)) / jnp.where(count > 0, count, 1)
    return nan_unless_finite(jnp.where(count > 0, mean, jnp.nan), distance)
