"""Sums over channels, with the size of what was summed: a sum far below it is rounding, no map.

value = sum_k G_k A_k          or   sum_k alpha_k A_k
size  = sum_hwk |G_k A_k|      or   sum_hwk |alpha_k| |A_k|

Where a network is blind to the length of its activations (in front of a layer norm), the terms of
every position cancel exactly: what floating point leaves of them would be drawn as a map.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# Measured at such layers of vision transformers: 1e-8 in float32; where a map says something, 1e-2
# and more. In narrow types the rounding of c terms that are independent is u / sqrt(c) of their
# sizes, u a unit's rounding: 0.03 to 2.2 times that was measured with 8 to 256 channels.
_WIDE = {"float64": 2e-14, "float32": 1e-5}
_TIMES = 3


class Sum(NamedTuple):
    """A map, and the size of the terms it is a sum of.

    Attributes:
        value: [b, h, w].
        size: the sum of the sizes of all terms of a map, [b].
    """

    value: Array
    size: Array

    def is_rounding(self, A: Array, z: Array) -> Array:
        """Whether nothing is left of the terms in the types of activations and embeddings, [b]."""
        limit = max(_limit(x.dtype, A.shape[-1]) for x in (A, z))
        left = jnp.sum(jnp.abs(self.value), axis=tuple(range(1, self.value.ndim)))
        return left < jnp.asarray(limit, left.dtype) * self.size


def _limit(dtype: jnp.dtype, channels: int) -> float:
    """How much of the terms' sizes rounding may leave."""
    return _WIDE.get(dtype.name) or _TIMES * float(jnp.finfo(dtype).eps) / 2 / channels**0.5


def products(G: Array, A: Array) -> Sum:
    """sum_k G_k A_k at every position of [b, h, w, c]."""
    # Not an einsum: XLA merges its batch axes and then gathers a batch sharded over devices. Nor
    # the sizes of G * A: kept for a second sum, the terms cost ten times as much.
    size = jnp.sum(jnp.sum(jnp.abs(G) * jnp.abs(A), axis=-1), axis=(1, 2))
    return Sum(jnp.sum(G * A, axis=-1), size)


def weighted(alpha: Array, A: Array, size: Array | None = None) -> Sum:
    """sum_k alpha_k A_k, [b, c], [b, h, w, c] -> [b, h, w], in full precision on every device.

    Where alpha is a sum itself, `size` [b, c] is that of its terms.
    """
    highest = jax.lax.Precision.HIGHEST
    value = jnp.einsum("bhwc,bc->bhw", A, alpha, precision=highest)
    size = jnp.abs(alpha) if size is None else size
    return Sum(value, jnp.sum(size * jnp.sum(jnp.abs(A), axis=(1, 2)), axis=1))


def relu(of: Sum) -> Sum:
    """Its positive part; the terms stay what they were."""
    return of._replace(value=jax.nn.relu(of.value))
