"""Occlusion: how much the similarity drops where a window covers the picture."""

import math
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fam_jax._core.axes import map_axes, space, spread
from fam_jax._core.checks import AnyArray, check_count, check_plain, wide
from fam_jax._core.encoder import as_embedding
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.method import Method
from fam_jax.methods.perturbation import IMAGES, floats, outer_and, score_copies, sum_of_masks

Sides = tuple[int, ...]


def occlusion(
    similarity: Similarity = cosine,
    *,
    window: int | Sides | None = None,
    stride: int | Sides | None = None,
    fill: float | Float[AnyArray, " c"] | None = None,
    chunk: int = 8,
) -> Method:
    """The drop of the similarity where a window is covered, averaged over the windows at a pixel.

        M_x = mean over windows w that cover x of (score(z, r) - score(z_w, r))

    Signed: where covering makes the pair more alike, the map is negative. Windows lie `stride`
    apart; the last of a row or column is moved back to end at the edge, so all have one size.

    Args:
        window: its side, or (height, width), in pixels, one number for each axis of positions; a
            seventh of the image if not given.
        stride: from one window to the next in pixels, or (down, across), no more than a window;
            half a window if not given.
        fill: what is put in a window, in the images' units: a number, or one for each channel; an
            image's own mean in each channel if not given.
        similarity, chunk: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda x: x.reshape(len(x), -1))
        >>> image, reference = jnp.array([[[[4.0], [2.0]]]]), jnp.array([[1.0, -1.0]])
        >>> method = fam_jax.occlusion(fam_jax.dot, window=1, fill=0.0)
        >>> fam_jax.explain(encode, image, reference, method).maps.tolist()
        [[[4.0, -2.0]]]

    Source: Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014.
    """
    check_count("chunk", chunk)
    sides = {"window": _given("window", window), "stride": _given("stride", stride)}
    check_plain("fill", fill)
    fill = None if fill is None else jnp.asarray(fill)
    return Method(similarity, partial(_occlusion, **sides, fill=fill, chunk=chunk), IMAGES)


def _occlusion(similarity, enc, references, *, window, stride, fill, chunk):
    images, embed = floats(enc.images), as_embedding(enc.encoder)
    b, *size, c = images.shape
    window = _sides("window", window or tuple(max(1, side // 7) for side in size), size)
    stride = _sides("stride", stride or tuple(max(1, side // 2) for side in window), window)
    covers = list(map(_covers, size, window, stride))
    if fill is None:
        fill = jnp.mean(wide(images)[0], axis=space(images))
    elif fill.shape not in ((), (c,)):
        raise ValueError(
            f"fill: expected a number, or one for each of the {c} channels, got shape {fill.shape}"
        )
    filling = spread(jnp.broadcast_to(fill.astype(images.dtype), (b, c)), map_axes(images))
    whole = score_copies(embed, similarity, images[:, None], references)

    def drops(numbers: Array) -> tuple[Array, Array]:
        places = jnp.unravel_index(numbers, tuple(map(len, covers)))
        within = (jnp.asarray(of)[at] for of, at in zip(covers, places, strict=True))
        covered = outer_and(list(within))
        copies = jnp.where(covered[None, ..., None], filling, images[:, None])
        return whole - score_copies(embed, similarity, copies, references), covered

    total = sum_of_masks(drops, images, references, math.prod(map(len, covers)), chunk)
    times = reduce(np.multiply.outer, (of.sum(0) for of in covers))
    return total / jnp.asarray(times, total.dtype)[None]


def _covers(side: int, window: int, stride: int) -> np.ndarray:
    """Which of the `side` pixels every window covers, [windows, side]."""
    starts = np.append(np.arange(0, side - window, stride), side - window)[:, None]
    pixels = np.arange(side)[None]
    return (pixels >= starts) & (pixels < starts + window)


def _given(name: str, given: Any) -> Any:
    """One number, or one for each axis."""
    for value in given if isinstance(given, tuple | list) else () if given is None else (given,):
        check_count(name, value)
    return tuple(given) if isinstance(given, list) else given


def _sides(name: str, given: int | Sides, most: Sequence[int]) -> Sides:
    """One number for each axis of what is one for all, or one for each; no more than there are."""
    each = given if isinstance(given, tuple) else (given,) * len(most)
    if len(each) != len(most):
        raise ValueError(
            f"{name}: expected an integer or {len(most)} of them, (height, width) of pictures, got "
            f"{given!r}"
        )
    for value, limit in zip(each, most, strict=True):
        check_count(name, value, limit)
    return each
