"""Overlays and figures. Matplotlib figures are returned, not shown: `figure.savefig(path)`."""

from collections.abc import Sequence
from typing import Any

import jax
import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image

from fam_jax.maps import rescale, upsample

Picture = Any  # a PIL image, or an array [H, W, 3] or [H, W] of uint8 or of floats in [0, 1]


def overlay(
    image: Picture,
    map: Float[jax.Array | np.ndarray, "h w"],
    *,
    alpha: float = 0.65,
    colormap: str = "turbo",
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with the map laid over it.

    The map m is upsampled, rescaled to [0, 1], coloured, and covers the picture the more, the
    higher it is: with t = alpha m^(1/2), pixel = (1 - t) picture + t colour(m).

    Args:
        image: a PIL image, or an array [H, W, 3] or [H, W], uint8 or floats in [0, 1].
        map: a raw map [h, w].
        alpha: how much of the picture the highest value covers, 0 to 1.
        colormap: a matplotlib colour map.

    Returns:
        Pixels, uint8 [H, W, 3]; the picture itself where the map is constant.

    Raises:
        ValueError, TypeError: if the picture or the map has another shape or type.

    Example:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> plot.overlay(np.zeros((32, 48, 3), np.uint8), np.eye(4, dtype=np.float32)).shape
        (32, 48, 3)
    """
    pixels = _pixels(image)
    if np.ndim(map) != 2:
        raise ValueError(f"map: expected one map [h, w], got shape {np.shape(map)}")
    m = np.asarray(rescale(upsample(np.asarray(map, np.float32), pixels.shape[:2])))
    heat = matplotlib.colormaps[colormap](m)[..., :3]
    t = alpha * np.sqrt(m)[..., None]
    return np.uint8(np.round(255 * ((1 - t) * pixels + t * heat)))


def pair_figure(
    query: Picture,
    reference: Picture,
    query_map: Float[jax.Array | np.ndarray, "h w"],
    reference_map: Float[jax.Array | np.ndarray, "hr wr"],
    *,
    score: float | None = None,
    title: str = "",
    names: tuple[str, str] = ("query", "reference"),
) -> Figure:
    """Both pictures of a pair above their overlays, with the score.

    Args:
        query: a picture (see `overlay`).
        reference: the other picture.
        query_map: its raw map [h, w].
        reference_map: the other's.
        score: the similarity, written into the title.
        title: what was measured, such as "cosine".
        names: captions of the pictures.

    Returns:
        A matplotlib figure.

    Example:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> picture, heat = np.zeros((32, 32, 3), np.uint8), np.eye(4, dtype=np.float32)
        >>> figure = plot.pair_figure(picture, picture, heat, heat, score=0.9, title="cosine")
        >>> figure.get_suptitle()
        'cosine 0.900'
    """
    said = title if score is None else f"{title} {score:.3f}".strip()
    return grid_figure(
        [[query, reference], [overlay(query, query_map), overlay(reference, reference_map)]],
        captions=[list(names), ["", ""]],
        title=said,
        colorbar=True,
    )


def grid_figure(
    rows: Sequence[Sequence[Picture | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    title: str = "",
    colorbar: bool = False,
    cell: float = 2.6,
) -> Figure:
    """Pictures in rows, each under its caption.

    Args:
        rows: pictures (see `overlay`); None leaves a cell empty.
        captions: a line over each picture, in the same rows.
        title: a line over all.
        colorbar: whether to show the scale of overlays, from low to high.
        cell: height of a row in inches.

    Returns:
        A matplotlib figure.

    Example:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> figure = plot.grid_figure([[np.zeros((8, 8, 3), np.uint8), None]])
        >>> len(figure.axes)
        2
    """
    columns = max(len(row) for row in rows)
    shapes = [_pixels(p).shape for row in rows for p in row if p is not None]
    aspect = float(np.mean([width / height for height, width, _ in shapes]))
    captioned = sum(any(line) for line in captions or ())
    height = len(rows) * cell + 0.35 * captioned + 0.4 * bool(title)
    size = (columns * cell * aspect + 1.1 * colorbar, height)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, line in enumerate(axes):
        for j, ax in enumerate(line):
            ax.axis("off")
            picture = rows[i][j] if j < len(rows[i]) else None
            if picture is not None:
                ax.imshow(_pixels(picture))
            if captions is not None and j < len(captions[i]) and captions[i][j]:
                ax.set_title(captions[i][j], fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    if colorbar:
        scale = matplotlib.cm.ScalarMappable(cmap="turbo")
        bar = figure.colorbar(scale, ax=axes, shrink=0.6, ticks=[0, 1])
        bar.ax.set_yticklabels(["low", "high"], fontsize=8)
    return figure


def _pixels(image: Picture) -> Float[np.ndarray, "H W 3"]:
    if isinstance(image, Image.Image):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"image: expected [H, W, 3] or [H, W], got shape {pixels.shape}")
    if pixels.dtype == np.uint8:
        return pixels / 255
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"image: expected uint8 or floats in [0, 1], got {pixels.dtype}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            "image: expected floats in [0, 1]; show the picture from before its normalisation"
        )
    return pixels
