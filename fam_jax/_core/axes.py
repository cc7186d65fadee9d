"""Which axes are positions: of inputs, of activations [b, *space, c], of maps [b, *space]."""

import jax.numpy as jnp
from jax import Array

from fam_jax._core.checks import AnyArray


def space(activations: AnyArray) -> tuple[int, ...]:
    """The axes of the positions of [b, *space, c]."""
    return tuple(range(1, activations.ndim - 1))


def map_axes(maps: AnyArray) -> tuple[int, ...]:
    """The axes of the positions of [b, *space]."""
    return tuple(range(1, maps.ndim))


def sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many positions inputs [b, *space, c], or [b, n], have along each axis.

    Examples:
        >>> from fam_jax._core.axes import sides
        >>> sides((2, 224, 224, 3)), sides((2, 77))
        ((224, 224), (77,))
    """
    return shape[1:-1] or shape[1:]


def spread(x: AnyArray, axes: tuple[int, ...]) -> Array:
    """An array with axes of length 1 where the result has the positions `axes`."""
    return jnp.expand_dims(x, axes)
