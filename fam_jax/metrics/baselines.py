"""Maps that know nothing: what every report shows beside the methods."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax.metrics._arguments import check_between


def random_map(key: Array, shape: tuple[int, int, int]) -> Float[Array, "b h w"]:
    """Independent uniform values in [0, 1).

    Args:
        key: `jax.random.key(seed)`.
        shape: (b, h, w); at the resolution of the methods' maps, for an upsampled random map is
            smoother than a random one.

    Returns:
        Maps [b, h, w].

    Raises:
        ValueError: if the shape is another.

    Example:
        >>> import jax
        >>> from fam_jax.metrics import random_map
        >>> random_map(jax.random.key(0), (2, 7, 7)).shape
        (2, 7, 7)
    """
    _check_shape(shape)
    return jax.random.uniform(key, shape, jnp.float32)


def centre_gaussian(shape: tuple[int, int, int], sigma: float = 0.25) -> Float[Array, "b h w"]:
    """A Gaussian in the middle, where photographers put things.

        exp(-(y^2 + x^2) / (2 sigma^2))   y, x from the centre, in heights and widths of the map

    Args:
        shape: (b, h, w).
        sigma: its width as a share of each side.

    Returns:
        Maps [b, h, w], all the same.

    Raises:
        ValueError: if the shape is another, or sigma not positive.

    Example:
        >>> from fam_jax.metrics import centre_gaussian
        >>> [round(v, 3) for v in centre_gaussian((1, 1, 3), sigma=1 / 3)[0, 0].tolist()]
        [0.607, 1.0, 0.607]
    """
    _check_shape(shape)
    check_between("sigma", sigma, 0, float("inf"))
    b, h, w = shape
    y, x = (((jnp.arange(n, dtype=jnp.float32) + 0.5) / n - 0.5) / sigma for n in (h, w))
    one = jnp.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2))
    return jnp.broadcast_to(one, (b, h, w))


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or any(side < 1 for side in shape):
        raise ValueError(f"shape: expected (batch, height, width), got {shape!r}")
