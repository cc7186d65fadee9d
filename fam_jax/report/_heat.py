"""A raw map as a small transparent picture, and in words."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image

from fam_jax._core.maps import rescale

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

    The picture shows a part of what the map is of: left, top, right, bottom in shares of its sides.

    Example:
        >>> import numpy as np
        >>> from fam_jax.report import _heat
        >>> _heat.scaled(np.eye(4, dtype=np.float32), (300, 200)).shape
        (64, 96)
    """
    left, top, right, bottom = part
    w, h = (max(1, round(SIDE / max(size) * side)) for side in size)
    smaller = max(w, round(w / (right - left))), max(h, round(h / (bottom - top)))
    # Pillow's bilinear is that of `maps.upsample`, and averages where a map is larger than this.
    picture = Image.fromarray(np.asarray(map, np.float32))
    resized = picture.resize(smaller, Image.Resampling.BILINEAR)
    x, y = (min(round(a * n), n - m) for a, n, m in zip((left, top), smaller, (w, h), strict=True))
    return np.asarray(rescale(np.asarray(resized), axes=(0, 1)))[y : y + h, x : x + w]


def save(m: Float[np.ndarray, "H W"], file: Path) -> None:
    """Write a map in [0, 1] as a PNG to be laid over a picture.

    As in `plot.overlay`: colour(m), as opaque as m^(1/2); the page has an opacity of its own.
    """
    # Even steps of opacity, not of m: its root climbs so fast from 0 that an edge would show.
    levels = np.round(np.sqrt(m) * (_LEVELS - 1)).astype(np.uint8)
    image = Image.fromarray(levels).convert("P")
    opacities = np.linspace(0, 1, _LEVELS)
    image.putpalette(_colours(opacities**2).tobytes())
    transparency = np.round(255 * opacities).astype(np.uint8).tobytes()
    image.save(file, "PNG", transparency=transparency, compress_level=9)


def describe(m: Float[np.ndarray, "H W"]) -> str:
    """Where a map in [0, 1] is high, for those who do not see it.

    Example:
        >>> import numpy as np
        >>> from fam_jax.report import _heat
        >>> _heat.describe(np.eye(4)[:, :2])
        'highest at the upper left, at least half as high on 25 % of the picture'
    """
    row, column = np.unravel_index(m.argmax(), m.shape)
    place = _PLACES[3 * row // m.shape[0]][3 * column // m.shape[1]]
    share = max(1, round(100 * np.mean(m >= 0.5)))
    return f"highest at the {place}, at least half as high on {share} % of the picture"


def gradient(stops: int = 12) -> str:
    """The colours from low to high, as a CSS gradient."""
    colours = _colours(np.linspace(0, 1, stops))
    return f"linear-gradient(to right, {', '.join('#' + bytes(c).hex() for c in colours)})"


def _colours(values: np.ndarray) -> np.ndarray:
    return matplotlib.colormaps["turbo"](values, bytes=True)[:, :3]
