"""Occlusion: how much the similarity drops where a window covers the picture.

M_x = mean over the windows w that cover x of (s(image) - s(image with w filled))
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_count
from fam_jax._core.encoding import as_embedding
from fam_jax._core.mesh import vary_with
from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.methods.perturbation import (
    check_pairs,
    fold,
    sayable_maps,
    score_copies,
    weighted_masks,
    wide_dtype,
)


def occlusion(
    embed: Callable,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    similarity: Similarity = cosine,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    fill: float | Float[AnyArray, " c"] | None = None,
    chunk: int = 8,
) -> Float[Array, "b H W"]:
    """The drop of the similarity where a window is covered, averaged over the windows at a pixel.

        M_x = mean over windows w that cover x of (score(z, r) - score(z_w, r))

    Signed: where covering makes the pair more alike, the map is negative. Windows lie `stride`
    apart; the last of a row or column is moved back to end at the edge, so all have one size.

    Args:
        embed: images [b, H, W, c] -> embeddings [b, d], or an encoder.
        images: preprocessed images.
        references: an embedding for each image.
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        window: its side, or (height, width), in pixels; a seventh of the image if not given.
        stride: from one window to the next in pixels, or (down, across); half a window if not
            given.
        fill: what is put in a window, in the images' units: a number, or one for each channel; an
            image's own mean in each channel if not given.
        chunk: covered copies of the whole batch that are embedded at a time; memory does not grow
            with the number of windows.

    Returns:
        Raw maps [b, H, W], in units of the score.

    Raises:
        ValueError, TypeError: for arguments of other shapes or types, a window larger than the
            image, or a stride larger than the window (pixels would be left out).

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> image = jnp.array([[[[4.0], [2.0]], [[0.0], [0.0]]]])
        >>> flat = lambda images: images.reshape(len(images), -1)
        >>> reference = jnp.array([[1.0, -1.0, 1.0, 1.0]])
        >>> fam_jax.occlusion(flat, image, reference, fam_jax.dot, window=1, fill=0.0).tolist()
        [[[4.0, -2.0], [0.0, 0.0]]]

    Source:
        Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014 (arXiv
        1311.2901).
    """
    check_pairs(images, references)
    check_count("chunk", chunk)
    sides = images.shape[1:3]
    window = _pair("window", window, tuple(max(1, side // 7) for side in sides), sides)
    stride = _pair("stride", stride, tuple(max(1, side // 2) for side in window), window)
    if fill is not None:
        fill = jnp.asarray(fill, images.dtype)
        if fill.shape not in ((), images.shape[3:]):
            raise ValueError(
                f"fill: expected a number, or one for each of the {images.shape[3]} channels, got "
                f"shape {fill.shape}"
            )
    similarity = as_similarity(similarity)
    return _occlusion(
        as_embedding(embed), images, references, fill, similarity,
        window=window, stride=stride, chunk=chunk,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("window", "stride", "chunk"))
def _occlusion(embed, images, references, fill, similarity, *, window, stride, chunk):
    b, height, width, c = images.shape
    dtype = wide_dtype(images, references)
    rows, columns = _covers(height, window[0], stride[0]), _covers(width, window[1], stride[1])
    if fill is None:
        fill = jnp.mean(images.astype(dtype), axis=(1, 2)).astype(images.dtype)
    fill = jnp.broadcast_to(fill.reshape(-1, fill.shape[-1] if fill.ndim else 1), (b, c))
    whole = score_copies(embed, similarity, images[:, None], references)

    def add(total, indices, valid):
        row, column = indices // len(columns), indices % len(columns)
        covered = jnp.asarray(rows)[row][:, :, None] & jnp.asarray(columns)[column][:, None, :]
        copies = jnp.where(covered[None, ..., None], fill[:, None, None, None, :], images[:, None])
        drops = whole - score_copies(embed, similarity, copies, references)
        return total + weighted_masks(jnp.where(valid[None], drops, 0), covered), None

    start = vary_with(jnp.zeros((b, height, width), dtype), images, references)
    total, _ = fold(add, start, len(rows) * len(columns), chunk)
    covering = np.outer(rows.sum(0), columns.sum(0))
    return sayable_maps(total / jnp.asarray(covering, dtype)[None], references)


def _covers(side: int, window: int, stride: int) -> np.ndarray:
    """Which of the `side` pixels every window covers, [windows, side]."""
    starts = np.arange(0, side - window, stride)
    starts = np.append(starts, side - window)[:, None]
    pixels = np.arange(side)[None]
    return (pixels >= starts) & (pixels < starts + window)


def _pair(name, given, default, most):
    pair = default if given is None else (given, given) if type(given) is int else tuple(given)
    if len(pair) != 2:
        raise ValueError(f"{name}: expected an integer or (height, width), got {given!r}")
    for value, limit in zip(pair, most, strict=True):
        check_count(name, value, limit)
    return pair
