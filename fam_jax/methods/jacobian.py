"""The head's Jacobian dz/dA, row by row: pullbacks of unit vectors, a few at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.axes import map_axes, spread
from fam_jax._core.checks import wide
from fam_jax.methods.sums import Sum, products


def unit(z: Array, d: Array) -> Array:
    """e_d for every image, shaped like z [b, d]; zeros where there is no dimension d."""
    return jnp.broadcast_to(jnp.arange(z.shape[1]) == d, z.shape).astype(z.dtype)


def position_parts(pullback: Callable[[Array], Array], z: Array, A: Array, chunk: int) -> Array:
    """u_ij[d] = sum_k pullback(e_d)_ijk A_ijk, [b, *space, d]; zeros where terms cancel."""

    def part(d):
        return products(*wide(pullback(unit(z, d)), A))

    u, size = jax.lax.map(part, jnp.arange(z.shape[1]), batch_size=rows_at_a_time(z, chunk))
    parts = Sum(jnp.moveaxis(u, 0, -1), jnp.sum(size, axis=0))
    return jnp.where(spread(parts.is_rounding(A, z), map_axes(A)), 0, parts.value)


def rows_at_a_time(z: Array, chunk: int) -> int:
    """`chunk`, no more than there are; 1 for a batch sharded over the axes of an explicit mesh.

    `vmap` of a convolution's pullback merges its axis with the batch, which cannot stay sharded.
    """
    if any(axis is not None for axis in jax.typeof(z).sharding.spec):
        return 1
    return min(chunk, z.shape[1])
