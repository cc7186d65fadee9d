"""Maps as they are stored: float32 as they are; float16 and uint8 between their own low and high.

    stored = (M - low) / (high - low),   M ~ low + (high - low) stored

In uint8 the unit is 255. The error is at most (high - low) / 510, or 2^-12 of it for float16.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

DTYPES = ("float16", "uint8", "float32")
_UNIT = {"float16": 1.0, "uint8": 255.0}


def quantise(maps: Array, dtype: str) -> tuple[Array, Array]:
    """Maps [b, h, w] as stored, and their ranges [b, 2]."""
    low, high = jnp.min(maps, axis=(1, 2)), jnp.max(maps, axis=(1, 2))
    ranges = jnp.stack([low, high], axis=1)
    if dtype == "float32":
        return maps.astype(jnp.float32), ranges
    span = (high - low)[:, None, None]
    unit = (maps - low[:, None, None]) / jnp.where(span == 0, 1, span)
    if dtype == "uint8":
        return jnp.round(unit * _UNIT[dtype]).astype(jnp.uint8), ranges
    return _half(unit), ranges


def _half(unit: Array) -> Array:
    """Numbers from 0 to 1 in float16, to the nearest and then to the even one.

    By their bits: XLA has no conversion on x86 processors without F16C.
    """
    bits = jax.lax.bitcast_convert_type(unit.astype(jnp.float32), jnp.uint32)
    normal = ((bits + 0xFFF + ((bits >> 13) & 1)) >> 13) - (112 << 10)  # exponents from -14
    small = jnp.round(unit * 2**24).astype(jnp.uint32)
    half = jnp.where(unit < 2**-14, small, normal).astype(jnp.uint16)
    return jax.lax.bitcast_convert_type(half, jnp.float16)


def restore(stored: np.ndarray, ranges: np.ndarray | None) -> np.ndarray:
    """Float32 maps [..., h, w] from stored ones and their ranges [..., 2]."""
    if ranges is None:
        return np.asarray(stored, np.float32)
    low, high = (ranges[..., i, None, None].astype(np.float32) for i in (0, 1))
    unit = stored.astype(np.float32) / np.float32(_UNIT[stored.dtype.name])
    return low + (high - low) * unit
