"""Occlusion: how much the similarity drops where a window covers the picture."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_count, wide
from fam_jax._core.encoder import as_embedding
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.method import Method
from fam_jax.methods.perturbation import IMAGES, score_copies, sum_of_masks

Sides = tuple[int, int]


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
        window: its side, or (height, width), in pixels; a seventh of the image if not given.
        stride: from one window to the next in pixels, or (down, across), no more than a window;
            half a window if not given.
        fill: what is put in a window, in the images' units: a number, or one for each channel; an
            image's own mean in each channel if not given.
        similarity, chunk: see `fam_jax.methods`.

    Example:
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
    sides = {"window": _two("window", window), "stride": _two("stride", stride)}
    fill = None if fill is None else jnp.asarray(fill)
    return Method(similarity, partial(_occlusion, **sides, fill=fill, chunk=chunk), IMAGES)


def _occlusion(similarity, enc, references, *, window, stride, fill, chunk):
    images, embed = enc.images, as_embedding(enc.encoder)
    b, height, width, c = images.shape
    window = window or (max(1, height // 7), max(1, width // 7))
    _check_sides("window", window, (height, width))
    stride = stride or (max(1, window[0] // 2), max(1, window[1] // 2))
    _check_sides("stride", stride, window)
    rows, columns = _covers(height, window[0], stride[0]), _covers(width, window[1], stride[1])
    if fill is None:
        fill = jnp.mean(wide(images)[0], axis=(1, 2))
    elif fill.shape not in ((), (c,)):
        raise ValueError(
            f"fill: expected a number, or one for each of the {c} channels, got shape {fill.shape}"
        )
    filling = jnp.broadcast_to(fill.astype(images.dtype), (b, c))[:, None, None, None]
    whole = score_copies(embed, similarity, images[:, None], references)

    def drops(numbers: Array) -> tuple[Array, Array]:
        row, column = numbers // len(columns), numbers % len(columns)
        covered = jnp.asarray(rows)[row][:, :, None] & jnp.asarray(columns)[column][:, None, :]
        copies = jnp.where(covered[None, ..., None], filling, images[:, None])
        return whole - score_copies(embed, similarity, copies, references), covered

    total = sum_of_masks(drops, images, references, len(rows) * len(columns), chunk)
    return total / jnp.asarray(np.outer(rows.sum(0), columns.sum(0)), total.dtype)[None]


def _covers(side: int, window: int, stride: int) -> np.ndarray:
    """Which of the `side` pixels every window covers, [windows, side]."""
    starts = np.append(np.arange(0, side - window, stride), side - window)[:, None]
    pixels = np.arange(side)[None]
    return (pixels >= starts) & (pixels < starts + window)


def _two(name: str, given: Any) -> Sides | None:
    """(height, width) of what is one number, or two."""
    if given is None:
        return None
    pair = (given, given) if type(given) is int else tuple(given)
    if len(pair) != 2:
        raise ValueError(f"{name}: expected an integer or (height, width), got {given!r}")
    _check_sides(name, pair, (None, None))
    return pair


def _check_sides(name: str, pair: Sides, most: Sides | tuple[None, None]) -> None:
    for value, limit in zip(pair, most, strict=True):
        check_count(name, value, limit)
