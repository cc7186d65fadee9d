"""The words of a sentence, coloured by their shares."""

from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import Any, NamedTuple
from unicodedata import bidirectional

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fam_jax._core.checks import check_unmasked
from fam_jax.plot.figures import TITLE
from fam_jax.plot.lettering import lettered
from fam_jax.plot.overlays import SEQUENTIAL, coloured

_SIZE, _NUMBER = 12, 8  # of letters, in points
_GAP, _PAD, _MARGIN = 0.07, 0.06, 0.12  # inches between words, inside their boxes, around all
_LONGEST = 8  # letters of a word in an inch of the figure, before it is broken


class _Word(NamedTuple):
    """What is drawn of a word, and how large, in inches."""

    text: dict[str, Any]
    number: str
    width: float
    height: float


def sentence(
    words: Sequence[str],
    shares: Float[jax.Array | np.ndarray, " n"],
    *,
    apart: Mapping[str, float | int] | None = None,
    title: str = "",
    limits: tuple[float | int, float | int] | None = None,
    colormap: str = SEQUENTIAL,
    width: float = 6.0,
) -> Figure:
    """The words of a sentence in boxes, red for a share above 0 and blue below, numbers under them.

    Colours are from `limits`, with 0 at their middle. Lines are as long as the figure is wide; a
    sentence that begins in letters written from right to left runs so. Where a share is not finite
    nothing can be said: its word has no colour and no number.

    Args:
        words: in the order of the sentence.
        shares: how much each of them holds of the score: tokens' shares summed over each word.
        apart: what belongs to no word (start, end, the biases' part), written under the words.
        title: a line over all.
        limits: the shares that are drawn bluest and reddest, (-a, a); the largest magnitude if not
            given.
        colormap: a matplotlib colour map; if not given, the one of signed maps.
        width: of the figure, in inches.

    Raises:
        ValueError: not as many shares as words, or limits without 0 in their middle.

    Examples:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> figure = plot.sentence(["a", "dog"], np.array([-0.02, 0.31]), apart={"end": 0.1})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['a', '-0.020', 'dog', '+0.310', 'end +0.100']
    """
    check_unmasked("shares", shares)
    shares = np.asarray(shares, np.float64)
    if shares.shape != (len(words),):
        raise ValueError(
            f"shares: expected one for each of {len(words)} words, got shape {shares.shape}"
        )
    if limits is not None and not limits[0] == -limits[1] < 0:
        raise ValueError(f"limits: expected (-a, a) with a above 0, got {limits}")
    others = dict(apart or {})
    numbers = _numbers([*shares, *others.values()])
    figure = Figure(figsize=(width, 1), dpi=120)
    lines = _lines(figure, words, numbers, width - 2 * _MARGIN)
    below = "   ".join(
        f"{name} {number}".strip()
        for name, number in zip(others, numbers[len(words) :], strict=True)
    )
    note = lettered(below, round(1.25 * TITLE * width), "s") if below else None
    heading = lettered(title, round(TITLE * width)) if title else None
    top = 0.1 + 0.19 * (heading["t"].count("\n") + 1) if heading else 0.0
    foot = 0.05 + 0.16 * (note["s"].count("\n") + 1) if note else 0.0
    high = sum(max(word.height for word in line) + _GAP for line in lines)
    height = 2 * _MARGIN + top + high + foot
    figure.set_size_inches(width, height)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.axis("off")
    ax.set(xlim=(0, width), ylim=(height, 0))
    if heading:
        figure.suptitle(**heading, fontsize=11, y=1 - 0.05 / height)

    finite = np.where(np.isfinite(shares), shares, 0)
    most = limits[1] if limits else np.abs(finite).max(initial=0)
    colours = coloured(0.5 + np.clip(finite / (2 * most or 1), -0.5, 0.5), colormap)
    rtl = _runs_left(words)
    y, n = _MARGIN + top, 0
    for line in lines:
        x = _MARGIN
        for word in line:
            left = width - x - word.width if rtl else x
            _draw(ax, word, left, y, colours[n] if np.isfinite(shares[n]) else None)
            x, n = x + word.width + _GAP, n + 1
        y += max(word.height for word in line) + _GAP
    if note:
        ax.text(_MARGIN, y + 0.05, **note, fontsize=_NUMBER, color="0.35", va="top")
    return figure


def _numbers(values: Sequence[float]) -> list[str]:
    """With a sign and as many digits as show three of the largest; nothing if not finite."""
    most = max((abs(v) for v in values if np.isfinite(v)), default=0)
    digits = 3 if most == 0 else min(max(2 - floor(log10(most)), 0), 9)
    return [f"{v + 0:+.{digits}f}" if np.isfinite(v) else "" for v in values]


def _lines(
    figure: Figure, words: Sequence[str], numbers: Sequence[str], room: float
) -> list[list[_Word]]:
    """The words in lines of at most `room` inches."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    ax = figure.add_axes((0, 0, 1, 1))

    def extent(size: int, **text: Any) -> tuple[float, float]:
        box = ax.text(0, 0, **text, fontsize=size).get_window_extent(renderer)
        return box.width / figure.dpi, box.height / figure.dpi

    _, letter = extent(_SIZE, s="bp")
    lines, used = [], room
    for word, number in zip(words, numbers, strict=False):
        text = lettered(word, max(1, round(_LONGEST * room)), "s")
        wide, high = extent(_SIZE, **text)
        wide = max(wide + 2 * _PAD, extent(_NUMBER, s=number)[0])
        item = _Word(text, number, wide, max(high, letter) + 2 * _PAD + 0.17)
        if used + _GAP + wide > room:
            lines, used = [*lines, []], -_GAP
        lines[-1].append(item)
        used += _GAP + wide
    ax.remove()
    return lines


def _draw(ax: Any, word: _Word, x: float, y: float, colour: np.ndarray | None) -> None:
    """A word in its box of this colour, over its number."""
    high, middle = word.height - 0.17, x + word.width / 2
    face = np.full(3, 0.93) if colour is None else colour
    box = {"facecolor": face, "edgecolor": "0.8", "linewidth": 0.6}
    ax.add_patch(Rectangle((x, y), word.width, high, **box))
    dark = face @ (0.299, 0.587, 0.114) < 0.5
    place = {"ha": "center", "fontsize": _SIZE, "color": "white" if dark else "black"}
    ax.text(middle, y + high / 2, va="center_baseline", **word.text, **place)
    if word.number:
        number = {"fontsize": _NUMBER, "color": "0.2", "ha": "center", "va": "top"}
        ax.text(middle, y + high + 0.03, word.number, **number)


def _runs_left(words: Sequence[str]) -> bool:
    """Whether the first letter with a direction is written from right to left."""
    for letter in "".join(words):
        if (kind := bidirectional(letter)) in ("L", "R", "AL"):
            return kind != "L"
    return False
