"""Overlays and figures. Matplotlib figures are returned, not shown: `figure.savefig(path)`.

Pictures are PIL images, or arrays [H, W, 3] or [H, W] of uint8 or of floats in [0, 1]; maps are
raw. A `score`, the similarity, stands in the heading after the `title`, such as "cosine".
"""

from collections.abc import Sequence
from typing import Any

import jax
import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from fam_jax._core.maps import rescale, upsample

Picture = Image.Image | jax.Array | np.ndarray


def overlay(
    image: Picture,
    map: Float[jax.Array | np.ndarray, "h w"],
    *,
    alpha: float = 0.65,
    colormap: str = "turbo",
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with the map laid over it.

    The map m is upsampled, rescaled to [0, 1], coloured, and covers the picture the more, the
    higher it is: with t = alpha m^(1/2), pixel = (1 - t) picture + t colour(m). A constant map
    leaves the picture as it is.

    Args:
        alpha: how much of the picture the highest value covers, 0 to 1.
        colormap: a matplotlib colour map.

    Example:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> plot.overlay(np.zeros((32, 48, 3), np.uint8), np.eye(4, dtype=np.float32)).shape
        (32, 48, 3)
    """
    pixels = _pixels(image)
    if np.ndim(map) != 2:
        raise ValueError(f"map: expected one map [h, w], got shape {np.shape(map)}")
    m = upsample(np.asarray(map, np.float32), pixels.shape[:2])
    m = np.asarray(rescale(m, axes=(0, 1)))
    heat = matplotlib.colormaps[colormap](m)[..., :3]
    t = alpha * np.sqrt(m)[..., None]
    return np.round(255 * ((1 - t) * pixels + t * heat)).astype(np.uint8)


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
        names: captions of the pictures.

    Example:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> picture, heat = np.zeros((32, 32, 3), np.uint8), np.eye(4, dtype=np.float32)
        >>> figure = plot.pair_figure(picture, picture, heat, heat, score=0.9, title="cosine")
        >>> figure.get_suptitle()
        'cosine 0.900'
    """
    rows = [[query, reference], [overlay(query, query_map), overlay(reference, reference_map)]]
    return grid_figure(rows, captions=[names], title=_heading(title, score), colorbar=True)


def points_figure(
    query: Picture,
    reference: Picture,
    p2p: Float[jax.Array | np.ndarray, "h w hr wr"],
    *,
    grid: tuple[int, int] = (2, 3),
    points: Sequence[tuple[int, int]] | None = None,
    score: float | None = None,
    title: str = "",
) -> Figure:
    """Points of the query, and for each what it meets in the reference.

    The query is on the left with its points numbered. Every panel on the right is the reference
    under the positive shares of one point, its peak marked with a cross; the number after the
    point's own is its part of the score, the sum of its shares (none where that is zero).

    Args:
        p2p: shares of one pair's positions, from `point_to_point` (better `centred`) or
            `integrated_pair`.
        grid: rows and columns of points, evenly over the query.
        points: cells (row, column) of the query's map instead of a grid.

    Example:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> picture, p2p = np.zeros((32, 32, 3), np.uint8), np.ones((4, 4, 2, 2), np.float32)
        >>> figure = plot.points_figure(picture, picture, p2p, points=[(0, 3), (2, 1)])
        >>> [ax.get_title() for ax in figure.axes]
        ['query', '1   +4.000', '2   +4.000']
    """
    p2p = np.asarray(p2p, np.float32)
    if p2p.ndim != 4:
        raise ValueError(f"p2p: expected shares [h, w, hr, wr] of one pair, got shape {p2p.shape}")
    h, w = p2p.shape[:2]
    if points is None:
        rows, columns = grid
        steps = np.ndindex(rows, columns)
        points = [(int((i + 0.5) * h / rows), int((j + 0.5) * w / columns)) for i, j in steps]
    else:
        columns = min(len(points), 3)
        rows = -(-len(points) // columns)
    for point in points:
        if not (0 <= point[0] < h and 0 <= point[1] < w):
            raise ValueError(f"points: {tuple(point)} lies outside the query's map of {h} x {w}")
    pixels, other = _pixels(query), _pixels(reference)
    heading, cell = _heading(title, score), 2.2
    side = rows * cell * pixels.shape[1] / pixels.shape[0]
    width = columns * cell * other.shape[1] / other.shape[0]
    height = rows * (cell + 0.25) + 0.35 * bool(heading)
    figure = Figure(figsize=(side + width, height), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[side, width])[0]
    ax = left.subplots()
    ax.imshow(pixels)
    ax.set_title("query", fontsize=10)
    ax.axis("off")
    panels = right.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(points) :]:
        panel.remove()
    palette = matplotlib.colormaps["tab10"]
    for n, (point, panel) in enumerate(zip(points, panels, strict=False)):
        colour, (x, y) = palette(n % palette.N), _centre(point, (h, w), pixels)
        ax.plot(x, y, "o", color=colour, markersize=15, markeredgecolor="white")
        place = {"ha": "center", "va": "center_baseline"}
        ax.text(x, y, str(n + 1), color="white", fontsize=9, weight="bold", **place)
        shares = p2p[tuple(point)]
        heat = np.maximum(shares, 0)
        panel.imshow(overlay(other, heat))
        if heat.any():
            x, y = _centre(np.unravel_index(heat.argmax(), heat.shape), heat.shape, other)
            panel.plot(x, y, "x", color="white", markersize=9, markeredgewidth=3.5)
            panel.plot(x, y, "x", color=colour, markersize=8, markeredgewidth=2)
        total = shares.sum()
        part = f"   {total:+.3f}" if abs(total) > 1e-3 * np.abs(shares).sum() else ""
        panel.set_title(f"{n + 1}{part}", fontsize=9, color=colour)
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set(color=colour, linewidth=2)
    if heading:
        figure.suptitle(heading, fontsize=11)
    return figure


def _heading(title: str, score: float | None) -> str:
    return title if score is None else f"{title} {score:.3f}".strip()


def _centre(cell: Sequence[Any], size: tuple[int, ...], pixels: np.ndarray) -> np.ndarray:
    """Where a cell of a map of this size has its centre in a picture: column and row."""
    return ((np.asarray(cell) + 0.5) * pixels.shape[:2] / size)[::-1]


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
        rows: pictures; None leaves a cell empty.
        captions: a line over each picture, in the same rows.
        colorbar: whether to show the scale of overlays, from low to high.
        cell: height of a row in inches.

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
    for ax in axes.flat:
        ax.axis("off")
    for line, pictures in zip(axes, rows, strict=True):
        for ax, picture in zip(line, pictures, strict=False):
            if picture is not None:
                ax.imshow(_pixels(picture))
    for line, texts in zip(axes, captions or (), strict=False):
        for ax, text in zip(line, texts, strict=False):
            ax.set_title(text, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    if colorbar:
        scale = ScalarMappable(cmap="turbo")
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
