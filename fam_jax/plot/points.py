"""Points of one image, and what each of them meets in the other."""

from collections.abc import Sequence
from typing import Any

import jax
import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from fam_jax._core.checks import check_unmasked
from fam_jax.plot.figures import TITLE
from fam_jax.plot.lettering import lettered
from fam_jax.plot.overlays import Picture, overlay, picture_pixels


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
        query: a picture (see `overlay`).
        reference: the other picture.
        p2p: shares of one pair's positions, from `point_to_point` (better `centred`) or
            `integrated_pair`.
        grid: rows and columns of points, evenly over the query.
        points: cells (row, column) of the query's map instead of a grid.
        score: the similarity, written into the title.
        title: what was measured, such as "cosine".

    Raises:
        ValueError: if `p2p` is not of one pair, or a point lies outside the query's map.

    Examples:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> picture, p2p = np.zeros((32, 32, 3), np.uint8), np.ones((4, 4, 2, 2), np.float32)
        >>> figure = plot.points_figure(picture, picture, p2p, points=[(0, 3), (2, 1)])
        >>> [ax.get_title() for ax in figure.axes]
        ['query', '1   +4.000', '2   +4.000']
    """
    check_unmasked("p2p", p2p)
    p2p = np.asarray(p2p, np.float32)
    if p2p.ndim != 4:
        raise ValueError(f"p2p: expected shares [h, w, hr, wr] of one pair, got shape {p2p.shape}")
    h, w, hr, wr = p2p.shape
    if points is None:
        rows, columns = grid
        points = [
            (int((i + 0.5) * h / rows), int((j + 0.5) * w / columns))
            for i in range(rows)
            for j in range(columns)
        ]
    else:
        columns = min(len(points), 3)
        rows = -(-len(points) // columns)
    for point in points:
        if not (0 <= point[0] < h and 0 <= point[1] < w):
            raise ValueError(f"points: {tuple(point)} lies outside the query's map of {h} x {w}")
    pixels, other = picture_pixels(query), picture_pixels(reference)
    cell = 2.2
    side = rows * cell * pixels.shape[1] / pixels.shape[0]
    panel = cell * other.shape[1] / other.shape[0]
    figure = Figure(
        figsize=(side + columns * panel, rows * (cell + 0.25) + 0.35 * bool(title or score)),
        dpi=120,
        layout="constrained",
    )
    halves = figure.subfigures(1, 2, squeeze=False, width_ratios=[side, columns * panel])
    left, right = halves[0]
    ax = left.subplots()
    ax.imshow(pixels)
    ax.set_title("query", fontsize=10)
    ax.axis("off")
    palette = [matplotlib.colormaps["tab10"](i) for i in range(10)]
    panels = right.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(points) :]:
        panel.remove()
    for n, ((i, j), panel) in enumerate(zip(points, panels, strict=False)):
        colour = palette[n % len(palette)]
        _dot(ax, (i + 0.5) * pixels.shape[0] / h, (j + 0.5) * pixels.shape[1] / w, colour, n + 1)
        heat = np.maximum(p2p[i, j], 0)
        panel.imshow(overlay(other, heat))
        if heat.any():
            x, y = np.unravel_index(heat.argmax(), heat.shape)
            place = (y + 0.5) * other.shape[1] / wr, (x + 0.5) * other.shape[0] / hr
            panel.plot(*place, "x", color="white", markersize=9, markeredgewidth=3.5)
            panel.plot(*place, "x", color=colour, markersize=8, markeredgewidth=2)
        part, size = p2p[i, j].sum(), np.abs(p2p[i, j]).sum()
        share = f"   {part:+.3f}" if abs(part) > 1e-3 * size else ""
        panel.set_title(f"{n + 1}{share}", fontsize=9, color=colour)
        panel.set_xticks([])
        panel.set_yticks([])
        for spine in panel.spines.values():
            spine.set(color=colour, linewidth=2)
    heading = title if score is None else f"{title} {score:.3f}".strip()
    if heading:
        letters = round(TITLE * figure.get_figwidth())
        figure.suptitle(**lettered(heading, letters), fontsize=11)
    return figure


def _dot(ax: Any, row: float, column: float, colour: tuple, number: int) -> None:
    ax.plot(column, row, "o", color=colour, markersize=15, markeredgecolor="white")
    place = {"ha": "center", "va": "center_baseline"}
    ax.text(column, row, str(number), color="white", fontsize=9, weight="bold", **place)
