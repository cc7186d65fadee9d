"""A raw map as a small transparent picture, and in words."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image

from fam_jax._core.maps import rescale
from fam_jax.plot.overlays import coloured, is_signed, shows

SIDE = 96  # pixels of the longer side; the browser smooths what a 14 x 14 map leaves
OPACITY = 0.65  # of a map's highest value, as in `plot.overlay`
_LEVELS = 64  # more make larger files, not better ones

_PLACES = (
    ("upper left", "top", "upper right"),
    ("left", "centre", "right"),
    ("lower left", "bottom", "lower right"),
)


def scaled(
    map: Float[np.ndarray, "h w"], size: tuple[int, int], part: Sequence[float] = (0, 0, 1, 1)
) -> Float[np.ndarray, "H W"]:
    """The raw map on a picture of `size` (width, height), in [0, 1]; zero if it is constant.

    A signed map is in [-1, 1], with 0 at 0.

    The picture shows a part of what the map is of: left, top, right, bottom in shares of its sides.

    Examples:
        >>> import numpy as np
        >>> from fam_jax.plot import heat
        >>> heat.scaled(np.eye(4, dtype=np.float32), (300, 200)).shape
        (64, 96)
    """
    left, top, right, bottom = part
    w, h = (max(1, round(SIDE / max(size) * side)) for side in size)
    smaller = max(w, round(w / (right - left))), max(h, round(h / (bottom - top)))
    # Pillow's bilinear is that of `maps.upsample`, and averages where a map is larger than this.
    picture = Image.fromarray(np.asarray(map, np.float32))
    resized = picture.resize(smaller, Image.Resampling.BILINEAR)
    x, y = (min(round(a * n), n - m) for a, n, m in zip((left, top), smaller, (w, h), strict=True))
    m = np.asarray(resized)
    if is_signed(map):
        unit = m / max(np.abs(m).max(), np.finfo(np.float32).tiny) if shows(map) else 0 * m
    else:
        unit = np.asarray(rescale(m, axes=(0, 1)))
    return unit[y : y + h, x : x + w]


def save(m: Float[np.ndarray, "H W"], file: Path | BytesIO) -> None:
    """Write a map in [0, 1], or a signed one in [-1, 1], as a PNG to be laid over a picture.

    As in `plot.overlay`: colour(m), as opaque as |m|^(1/2); the page has an opacity of its own.
    """
    # Even steps of opacity, not of m: its root climbs so fast from 0 that an edge would show.
    levels = np.round(np.sign(m) * np.sqrt(np.abs(m)) * (_LEVELS - 1))
    signed = bool((m < 0).any())
    image = Image.fromarray((levels + signed * (_LEVELS - 1)).astype(np.uint8)).convert("P")
    if signed:
        opacities = np.linspace(-1, 1, 2 * _LEVELS - 1)
        unit = (np.sign(opacities) * opacities**2 + 1) / 2
        colours = np.round(255 * coloured(unit)).astype(np.uint8)
    else:
        opacities = np.linspace(0, 1, _LEVELS)
        colours = _colours(opacities**2)
    image.putpalette(colours.tobytes())
    transparency = np.round(255 * np.abs(opacities)).astype(np.uint8).tobytes()
    image.save(file, "PNG", transparency=transparency, compress_level=9)


def describe(m: Float[np.ndarray, "H W"]) -> str:
    """Where a map in [0, 1] is high, or a signed one below 0, for those who do not see it.

    Examples:
        >>> import numpy as np
        >>> from fam_jax.plot import heat
        >>> heat.describe(np.eye(4)[:, :2])
        'highest at the upper left, at least half as high on 25 % of the picture'
    """
    row, column = np.unravel_index(m.argmax(), m.shape)
    place = _PLACES[3 * row // m.shape[0]][3 * column // m.shape[1]]
    share = max(1, round(100 * np.mean(m >= m.max() / 2)))
    words = f"highest at the {place}, at least half as high on {share} % of the picture"
    return f"{words}, below 0 on {round(100 * np.mean(m < 0))} %" if (m < 0).any() else words


def gradient(stops: int = 12) -> str:
    """The colours from low to high, as a CSS gradient."""
    colours = _colours(np.linspace(0, 1, stops))
    return f"linear-gradient(to right, {', '.join('#' + bytes(c).hex() for c in colours)})"


def _colours(values: np.ndarray) -> np.ndarray:
    return matplotlib.colormaps["turbo"](values, bytes=True)[:, :3]
