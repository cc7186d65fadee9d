"""Pixels in the order of a map, and what takes the place of those that are removed."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fam_jax._core.axes import space
from fam_jax._core.checks import AnyArray, wide
from fam_jax._core.maps import upsample

ORDERS = ("most", "least")


def pixel_ranks(maps: AnyArray, size: tuple[int, ...], order: str) -> Array:
    """The place of every pixel [b, *size] in the order of its map, from 0; no two are the same.

    Equal pixels follow each other in an order that looks random and is always the same one: in
    reading order a constant map would be a scan of rows.
    """
    values = upsample(maps, size).reshape(maps.shape[0], -1)
    values = -values if order == "most" else values
    index = jax.lax.broadcasted_iota(jnp.int32, values.shape, 1)
    _, _, pixels = jax.lax.sort((values, scattered(index), index), dimension=1, num_keys=2)
    # The inverse of a permutation is its argsort; a scatter would gather a sharded batch.
    _, ranks = jax.lax.sort((pixels, index), dimension=1, num_keys=1)
    return ranks.reshape(-1, *size)


def scattered(index: Array) -> Array:
    """Integers mixed one-to-one over the 32-bit ones: the last step of Appleby's MurmurHash3.

    No random numbers: these depend on the settings of JAX, an order of pixels must not.
    """
    x = index.astype(jnp.uint32)
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def mean_color(images: Array) -> Array:
    """The mean of every channel, spread over the image: [b, *space, c]."""
    (x,) = wide(images)
    mean = jnp.mean(x, axis=space(x), keepdims=True)
    return jnp.broadcast_to(mean, x.shape).astype(images.dtype)


def blurred(images: Array) -> Array:
    """A Gaussian blur: 11 pixels wide and sigma 5 at a shorter side of 224, in proportion else.

    At least 3 pixels wide, and always odd; sigma is 5/11 of the width; edges are held.
    """
    (x,) = wide(images)
    radius = max(1, round((11 * min(images.shape[1:-1]) / 224 - 1) / 2))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / (5 / 11 * (2 * radius + 1))) ** 2)
    weights /= weights.sum()
    for axis in space(x):
        length = x.shape[axis]
        part = partial(jax.lax.slice_in_dim, axis=axis)
        first, last = [part(x, 0, 1)] * radius, [part(x, length - 1, length)] * radius
        padded = jnp.concatenate([*first, x, *last], axis=axis)
        # Slices, neither jnp.pad nor a convolution: a sharded batch stays where it is.
        shifts = (part(padded, i, i + length) for i in range(2 * radius + 1))
        x = reduce(jnp.add, (float(w) * shift for w, shift in zip(weights, shifts, strict=True)))
    return x.astype(images.dtype)
