"""Sums over channels, with the size of what was summed: a sum far below it is rounding, no map.

Where a network is blind to the length of its activations (in front of a layer norm), the terms of
every position cancel exactly: what floating point leaves of them would be drawn as a map.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.axes import map_axes, space

matmul = partial(jnp.matmul, precision="highest")

# Measured at such layers of vision transformers: 1e-8 in float32; where a map says something, 1e-2
# and more. In narrow types the rounding of c terms that are independent is u / sqrt(c) of their
# sizes, u a unit's rounding: 0.03 to 2.2 times that was measured with 8 to 256 channels.
_WIDE = {"float64": 2e-14, "float32": 1e-5}
_TIMES = 3


class Sum(NamedTuple):
    """Maps [b, *space], and the sum of the sizes of all terms of each, [b]."""

    value: Array
    size: Array

    def is_rounding(self, A: Array, z: Array) -> Array:
        """Whether nothing is left of the terms in the types of activations and embeddings, [b]."""
        u = {x.dtype.name: float(jnp.finfo(x.dtype).eps) / 2 for x in (A, z)}
        limit = max(_WIDE.get(name) or _TIMES * u[name] / A.shape[-1] ** 0.5 for name in u)
        left = jnp.sum(jnp.abs(self.value), axis=map_axes(self.value))
        return left < jnp.asarray(limit, left.dtype) * self.size


def products(G: Array, A: Array) -> Sum:
    """sum_k G_k A_k at every position of [b, *space, c]."""
    # Not an einsum: XLA merges its batch axes and then gathers a batch sharded over devices. Nor
    # the sizes of G * A: kept for a second sum, the terms cost ten times as much.
    size = jnp.sum(jnp.sum(jnp.abs(G) * jnp.abs(A), axis=-1), axis=space(A))
    return Sum(jnp.sum(G * A, axis=-1), size)


def weighted(alpha: Array, A: Array, size: Array | None = None) -> Sum:
    """sum_k alpha_k A_k; where alpha [b, c] is a sum itself, `size` [b, c] is that of its terms."""
    value = jnp.einsum("b...c,bc->b...", A, alpha, precision="highest")
    size = jnp.abs(alpha) if size is None else size
    return Sum(value, jnp.sum(size * jnp.sum(jnp.abs(A), axis=space(A)), axis=1))


def relu(of: Sum) -> Sum:
    """Its positive part; the terms stay what they were."""
    return of._replace(value=jax.nn.relu(of.value))
