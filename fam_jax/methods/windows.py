"""Occlusion: how much the similarity drops where a window covers the picture.

M_x = mean over the windows w that cover x of (s(image) - s(image with w filled))
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_count
from fam_jax._core.encoder import as_embedding
from fam_jax._core.encoding import Encoding
from fam_jax._core.mesh import vary_with
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.method import Method
from fam_jax.methods.perturbation import (
    IMAGES,
    fold,
    score_copies,
    weighted_masks,
    wide_dtype,
)


def occlusion(
    similarity: Similarity = cosine,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    fill: float | Float[AnyArray, " c"] | None = None,
    chunk: int = 8,
) -> Method:
    """The drop of the similarity where a window is covered, averaged over the windows at a pixel.

        M_x = mean over windows w that cover x of (score(z, r) - score(z_w, r))

    Signed: where covering makes the pair more alike, the map is negative. Windows lie `stride`
    apart; the last of a row or column is moved back to end at the edge, so all have one size.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        window: its side, or (height, width), in pixels; a seventh of the image if not given.
        stride: from one window to the next in pixels, or (down, across); half a window if not
            given.
        fill: what is put in a window, in the images' units: a number, or one for each channel; an
            image's own mean in each channel if not given.
        chunk: covered copies of the whole batch that are embedded at a time; memory does not grow
            with the number of windows.

    Returns:
        A `Method` that needs the images: raw maps [b, H, W], in units of the score.

    Raises:
        ValueError, TypeError: for other arguments; when called, for a window larger than the image
            or a stride larger than the window (pixels would be left out).

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda x: x.reshape(len(x), -1))
        >>> image = jnp.array([[[[4.0], [2.0]], [[0.0], [0.0]]]])
        >>> reference = jnp.array([[1.0, -1.0, 1.0, 1.0]])
        >>> method = fam_jax.occlusion(fam_jax.dot, window=1, fill=0.0)
        >>> fam_jax.explain(encode, image, reference, method).maps.tolist()
        [[[4.0, -2.0], [0.0, 0.0]]]

    Source:
        Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014 (arXiv
        1311.2901).
    """
    check_count("chunk", chunk)
    sides = {name: _two(name, side) for name, side in (("window", window), ("stride", stride))}
    fill = None if fill is None else jnp.asarray(fill)
    return Method(similarity, _Occlusion(fill, chunk=chunk, **sides), IMAGES)


@partial(register_dataclass, data_fields=["fill"], meta_fields=["window", "stride", "chunk"])
@dataclass(frozen=True)
class _Occlusion:
    fill: Any
    window: tuple[int, int] | None
    stride: tuple[int, int] | None
    chunk: int

    def __call__(self, similarity: Similarity, enc: Encoding, references: Array) -> Array:
        images, embed = enc.images, as_embedding(enc.encoder)
        b, height, width, _ = images.shape
        dtype = wide_dtype(images, references)
        window = self.window or (max(1, height // 7), max(1, width // 7))
        _check_sides("window", window, (height, width))
        stride = self.stride or (max(1, window[0] // 2), max(1, window[1] // 2))
        _check_sides("stride", stride, window)
        rows, columns = _covers(height, window[0], stride[0]), _covers(width, window[1], stride[1])
        fill = self._fill(images)
        whole = score_copies(embed, similarity, images[:, None], references)

        def add(total, indices, valid):
            row, column = indices // len(columns), indices % len(columns)
            covered = jnp.asarray(rows)[row][:, :, None] & jnp.asarray(columns)[column][:, None, :]
            copies = jnp.where(
                covered[None, ..., None], fill[:, None, None, None, :], images[:, None]
            )
            drops = whole - score_copies(embed, similarity, copies, references)
            return total + weighted_masks(jnp.where(valid[None], drops, 0), covered), None

        start = vary_with(jnp.zeros((b, height, width), dtype), images, references)
        total, _ = fold(add, start, len(rows) * len(columns), self.chunk)
        covering = np.outer(rows.sum(0), columns.sum(0))
        return total / jnp.asarray(covering, dtype)[None]

    def _fill(self, images: Array) -> Array:
        """What each image's windows are filled with, [b, c]."""
        b, _, _, c = images.shape
        fill = self.fill
        if fill is None:
            fill = jnp.mean(images.astype(wide_dtype(images, images)), axis=(1, 2))
        elif fill.shape not in ((), (c,)):
            raise ValueError(
                f"fill: expected a number, or one for each of the {c} channels, got shape "
                f"{fill.shape}"
            )
        fill = fill.astype(images.dtype)
        return jnp.broadcast_to(fill.reshape(-1, fill.shape[-1] if fill.ndim else 1), (b, c))


def _covers(side: int, window: int, stride: int) -> np.ndarray:
    """Which of the `side` pixels every window covers, [windows, side]."""
    starts = np.arange(0, side - window, stride)
    starts = np.append(starts, side - window)[:, None]
    pixels = np.arange(side)[None]
    return (pixels >= starts) & (pixels < starts + window)


def _two(name: str, given: Any) -> tuple[int, int] | None:
    """(height, width) of what is one number, or two."""
    if given is None:
        return None
    pair = (given, given) if type(given) is int else tuple(given)
    if len(pair) != 2:
        raise ValueError(f"{name}: expected an integer or (height, width), got {given!r}")
    for value in pair:
        check_count(name, value)
    return pair


def _check_sides(name: str, pair: tuple[int, int], most: tuple[int, int]) -> None:
    for value, limit in zip(pair, most, strict=True):
        check_count(name, value, limit)
