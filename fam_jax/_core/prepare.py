"""Inputs as a network takes them: pictures of 8 bits are prepared, others are checked."""

import warnings
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, UInt8

from fam_jax._core.checks import AnyArray, check_float, check_plain, check_unmasked

AXES = "batch height width channels"
# Images, signals, volumes, points, ...; or token ids.
Inputs = Float[AnyArray, "_ _ ..."] | Integer[AnyArray, "_ _"]
# What a network's own preprocessing gave, or pictures of 8 bits for one that brings it.
Images = Inputs | UInt8[AnyArray, "_ _ _ _"] | list[Any] | tuple[Any, ...]


def prepare(name: str, images: Any, preprocess: Any = None) -> AnyArray:
    """Inputs [b, *space, c], or [b, n], as they are; pictures of 8 bits through `preprocess`.

    Args:
        name: what the caller calls the images.
        images: a batch of floats, or integers [b, n]; or pictures, uint8 [b, H, W, 3] or a list of
            arrays, PIL images and what `backbone.open` gives, of any sizes.
        preprocess: one picture -> [H, W, c], if the network brings it; with `normalise`, pixels ->
            what the network takes, floats are looked at, too.

    Warns:
        UserWarning: if floats cannot have come from `preprocess`, by their range.
    """
    if not isinstance(images, AnyArray | list | tuple) or (
        isinstance(images, AnyArray) and (images.dtype != np.uint8 or images.ndim == 2)
    ):
        check_inputs(name, images)
        ids = jnp.issubdtype(images.dtype, jnp.integer)
        if preprocess is not None and (not ids or hasattr(preprocess, "normalise")):
            check_float(name, images, AXES)  # a network of pictures
        if hasattr(preprocess, "normalise") and images.size and _is_here(images):
            _check_range(name, images, preprocess)
        return images
    if preprocess is None:
        got = getattr(images, "dtype", type(images).__name__)
        raise TypeError(
            f"{name}: expected an array of floating-point numbers [{AXES}], got {got}: "
            "capture(backbone) prepares pictures of 8 bits, for another model do it before"
        )
    if isinstance(images, jax.core.Tracer):
        raise TypeError(f"{name}: pictures are prepared outside of jit: give it their floats")
    if not len(images):
        raise ValueError(f"{name}: no pictures were given")
    pictures = list(images)  # each by itself: they may differ in size
    check_unmasked(name, *pictures)
    ready = [p.input if hasattr(p, "input") else preprocess(p) for p in pictures]
    return jnp.asarray(np.stack(ready))


def check_inputs(name: str, x: Any) -> None:
    """Raise unless `x` is an array with the batch first: of floats, or of integers [b, n]."""
    if not isinstance(x, AnyArray):
        raise TypeError(f"{name}: expected an array [{AXES}], got {type(x).__name__}")
    if x.ndim < 2:
        raise ValueError(
            f"{name}: expected an array [{AXES}], or with other axes after the batch, got shape "
            f"{x.shape}"
        )
    ids = x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.integer)
    if not ids and not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected floating-point numbers, or integers [batch, tokens], got "
            f"{x.dtype} of shape {x.shape}"
        )
    check_plain(name, x)


def embeddings_given(x: Any) -> bool:
    """Whether these are embeddings [r, d], and not inputs to be encoded."""
    return isinstance(x, AnyArray) and x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.floating)


def _is_here(images: AnyArray) -> bool:
    """Whether the values are there, and on one device: others would have to communicate."""
    if isinstance(images, np.ndarray):
        return True
    return not isinstance(images, jax.core.Tracer) and len(images.sharding.device_set) == 1


def _check_range(name: str, images: AnyArray, preprocess: Any) -> None:
    if images.shape[-1] != getattr(preprocess, "channels", images.shape[-1]):
        return  # the network says what it takes
    black_and_white = preprocess.normalise(
        np.array([0, 255], np.uint8)[:, None, None].repeat(images.shape[-1], axis=2)
    )
    ends = np.sort(black_and_white.reshape(2, -1), axis=0)
    low, high = float(ends[0].min()), float(ends[1].max())
    least, most = float(images.min()), float(images.max())
    slack = 0.05 * (high - low)  # as resizing overshoots, and noise
    # All of 0 .. 1 and nothing else is what floats are before their normalisation.
    unit = 0 <= least < 0.1 and 0.9 < most <= 1 and (low < -slack or high > 1 + slack)
    if unit or least < low - slack or most > high + slack:
        warnings.warn(
            f"{name}: values from {least:.3g} to {most:.3g}, but this network was trained on "
            f"pictures normalised to {low:.3g} .. {high:.3g}: use backbone.preprocess, or give "
            "pictures of 8 bits",
            stacklevel=4,
        )
