"""Pictures and overlays in rows, under captions."""

from collections.abc import Sequence
from functools import partial
from itertools import zip_longest

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from fam_jax.plot.lettering import lettered
from fam_jax.plot.overlays import (
    DIVERGING,
    SEQUENTIAL,
    Picture,
    is_signed,
    overlay,
    picture_pixels,
    shows,
)

NOTHING = "nothing to show"
SIGNED = "red above 0, blue below"
_LETTERS = 12  # of a caption, in an inch
TITLE = 11  # of a title
_WIDTHS = 0.5, 3  # of a column, in heights of a cell: at least, at most


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
    """Both pictures of a pair above their overlays, with the score; a constant map shows nothing.

    Args:
        query: a picture (see `overlay`).
        reference: the other picture.
        query_map: a raw map, like the other.
        reference_map: the other's.
        score: the similarity, written into the title.
        title: what was measured, such as "cosine".
        names: captions of the pictures.

    Examples:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> picture, heat = np.zeros((32, 32, 3), np.uint8), np.eye(4, dtype=np.float32)
        >>> figure = plot.pair_figure(picture, picture, heat, heat, score=0.9, title="cosine")
        >>> figure.get_suptitle()
        'cosine 0.900'
    """
    heading = title if score is None else f"{title} {score:.3f}".strip()
    return grid_figure(
        [[query, reference], [overlay(query, query_map), overlay(reference, reference_map)]],
        captions=[list(names), [remark(m) for m in (query_map, reference_map)]],
        title=heading,
        colorbar=True,
        colormap=DIVERGING if any(map(is_signed, (query_map, reference_map))) else SEQUENTIAL,
    )


def remark(map: jax.Array | np.ndarray) -> str:
    """What is said over the overlay of a map: that it shows nothing, or what its colours are."""
    if not shows(map):
        return NOTHING
    return SIGNED if is_signed(map) else ""


def grid_figure(
    rows: Sequence[Sequence[Picture | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    title: str = "",
    colorbar: bool = False,
    colormap: str = "turbo",
    cell: float = 2.6,
) -> Figure:
    """Pictures in rows, each under its caption.

    Args:
        rows: pictures (see `overlay`); None leaves a cell empty.
        captions: a line over each picture, in the same rows.
        title: a line over all.
        colorbar: whether to show the scale of overlays, from low to high.
        colormap: what the overlays are coloured with.
        cell: height of a row in inches; a row of nothing but very wide pictures is lower.

    Examples:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> figure = plot.grid_figure([[np.zeros((8, 8, 3), np.uint8), None]])
        >>> len(figure.axes)
        2
    """
    columns = list(zip_longest(*rows))
    aspects = [max(map(_aspect, column)) for column in columns]
    # An empty column has some width, too; one of towers has room for captions.
    widths = [cell * min(max(a or max(aspects), _WIDTHS[0]), _WIDTHS[1]) for a in aspects]
    heights = [max(map(partial(_height, cell), row, widths)) or cell for row in rows]
    captioned = sum(any(line) for line in captions or ())
    height = sum(heights) + 0.35 * captioned + 0.4 * bool(title)
    size = (sum(widths) + 1.1 * colorbar, height)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots(
        len(rows), len(columns), squeeze=False, width_ratios=widths, height_ratios=heights
    )
    for i, line in enumerate(axes):
        for j, ax in enumerate(line):
            ax.axis("off")
            picture = rows[i][j] if j < len(rows[i]) else None
            if picture is not None:
                ax.imshow(picture_pixels(picture))
            if captions is not None and j < len(captions[i]) and captions[i][j]:
                letters = round(_LETTERS * widths[j])
                ax.set_title(**lettered(captions[i][j], letters, "label"), fontsize=9)
    if title:
        figure.suptitle(**lettered(title, round(TITLE * size[0])), fontsize=11)
    if colorbar:
        scale = ScalarMappable(cmap=colormap)
        bar = figure.colorbar(scale, ax=axes, shrink=0.6, ticks=[0, 1], panchor=False)
        bar.ax.set_yticklabels(["low", "high"], fontsize=8)
    return figure


def _height(cell: float, picture: Picture | None, width: float) -> float:
    """Of a picture in a column of this width."""
    return min(cell, width / aspect) if (aspect := _aspect(picture)) else 0.0


def _aspect(picture: Picture | None) -> float:
    """Width over height; that of nothing is 0."""
    if picture is None:
        return 0.0
    height, width, _ = picture_pixels(picture).shape
    return width / height
