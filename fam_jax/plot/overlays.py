"""A map laid over its picture, where the network saw it."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from fam_jax._core.checks import check_unmasked
from fam_jax._core.maps import rescale, upsample

Box = tuple[float | int, float | int, float | int, float | int]  # left, top, right, bottom


@runtime_checkable
class Seen(Protocol):
    """A picture with the part of it that a network saw, as `backbone.open` gives it."""

    @property
    def picture(self) -> Image.Image:
        """The whole of it."""
        ...

    @property
    def box(self) -> Box:
        """What was seen, in pixels."""
        ...


# An array is [H, W, 3] or [H, W], of uint8 or of floats in [0, 1].
Picture = Image.Image | jax.Array | np.ndarray | Seen
SEQUENTIAL, DIVERGING = "turbo", "RdBu_r"
_PALE = 0.55  # how far what was not seen goes towards grey
_FRAME = 0.25, 1 / 200  # grey level of the line around what was seen; its width, of a shorter side


def overlay(
    image: Picture,
    map: Float[jax.Array | np.ndarray, "h w"],
    *,
    box: Box | None = None,
    limits: tuple[float | int, float | int] | None = None,
    alpha: float = 0.65,
    colormap: str = SEQUENTIAL,
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with the map over the part that the network saw; the rest is grey, framed off.

    The map m is upsampled, brought from `limits` to [0, 1], coloured, and covers the picture the
    more, the higher it is: with t = alpha m^(1/2), pixel = (1 - t) picture + t colour(m). A signed
    map is brought to [-1, 1] by its largest magnitude, with 0 at 0: red above it, blue below, and
    t = alpha |m|^(1/2). A map that is not finite is not drawn.

    Args:
        image: a PIL image, an array [H, W, 3] or [H, W], uint8 or floats in [0, 1], or what
            `backbone.open` gives, which knows its box.
        map: a raw map [h, w].
        box: what the map is of: left, top, right, bottom in pixels of the picture, beyond its
            edges where it was padded; the whole picture if not given.
        limits: the values that are drawn lowest and highest; the map's own if not given. Of
            (-a, a) 0 is the middle, as for a signed map.
        alpha: how much of the picture the highest value covers, 0 to 1.
        colormap: a matplotlib colour map; of signed maps, if not given, `DIVERGING`.

    Returns:
        Pixels, uint8 [H, W, 3]; the picture itself where the map is constant.

    Examples:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> picture, heat = np.zeros((32, 48, 3), np.uint8), np.eye(4, dtype=np.float32)
        >>> plot.overlay(picture, heat, box=(8, 0, 40, 32)).shape
        (32, 48, 3)
    """
    pixels = picture_pixels(image)
    if np.ndim(map) != 2:
        raise ValueError(f"map: expected one map [h, w], got shape {np.shape(map)}")
    height, width = pixels.shape[:2]
    if box is None:
        box = image.box if isinstance(image, Seen) else (0, 0, width, height)
    left, top, right, bottom = (round(side) for side in box)
    if not (max(left, 0) < min(right, width) and max(top, 0) < min(bottom, height)):
        raise ValueError(f"box: {tuple(box)} is no part of a picture of {width} x {height} pixels")
    y0, y1, x0, x1 = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
    part = pixels[y0:y1, x0:x1]
    check_unmasked("map", map)
    raw = np.asarray(map, np.float32)
    centred = is_signed(raw) if limits is None else limits[0] == -limits[1]
    if not np.isfinite(raw).all():
        raw, limits = np.zeros_like(raw), None
    elif centred and limits is None:
        limits = symmetric([raw])
    m = np.asarray(upsample(raw, (bottom - top, right - left)))
    m = scaled(m, limits)[y0 - top : y1 - top, x0 - left : x1 - left]
    if centred and shows(raw):
        heat, m = coloured(m, colormap), np.abs(2 * m - 1)
    else:
        heat = matplotlib.colormaps[colormap](m if shows(raw) else 0 * m)[..., :3]
        m = m if shows(raw) else 0 * m
    t = alpha * np.sqrt(m)[..., None]
    out = (1 - _PALE) * pixels.mean(axis=2, keepdims=True) + _PALE * np.full_like(pixels, 0.75)
    line = max(1, round(min(height, width) * _FRAME[1]))
    out[max(y0 - line, 0) : y1 + line, max(x0 - line, 0) : x1 + line] = _FRAME[0]
    out[y0:y1, x0:x1] = (1 - t) * part + t * heat
    return np.round(255 * out).astype(np.uint8)


def scaled(map: np.ndarray, limits: tuple[float | int, float | int] | None) -> np.ndarray:
    """The map brought from `limits` to [0, 1], or from its own; zeros where it is constant."""
    if limits is None:
        return np.asarray(rescale(map, axes=tuple(range(map.ndim))))
    low, high = limits
    if not low < high:
        return np.zeros_like(map)
    return np.clip((map - low) / (high - low), 0, 1)


def shows(map: jax.Array | np.ndarray) -> bool:
    """Whether a map is finite, and any place of it differs from the others beyond rounding."""
    map = np.asarray(map, np.float32)
    return bool(np.isfinite(map).all() and scaled(map, None).any())


def is_signed(map: jax.Array | np.ndarray) -> bool:
    """Whether a map is finite and below 0 somewhere, by more than rounding."""
    map = np.asarray(map, np.float32)
    rounding = 8 * np.finfo(np.float32).eps * np.abs(map).max()
    return bool(np.isfinite(map).all() and map.min() < -rounding)


def symmetric(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits with 0 in their middle that hold all maps."""
    most = max(float(np.abs(map).max()) for map in maps)
    return -most, most


def coloured(unit: np.ndarray, colormap: str = SEQUENTIAL) -> Float[np.ndarray, "*s 3"]:
    """The colours of a signed map in [0, 1] with 0 at 1/2."""
    name = DIVERGING if colormap == SEQUENTIAL else colormap
    return matplotlib.colormaps[name](unit)[..., :3]


def picture_pixels(image: Any) -> Float[np.ndarray, "H W 3"]:
    """A picture as floats in [0, 1]."""
    image = getattr(image, "picture", image)
    if isinstance(image, Image.Image):
        image = image.convert("RGB")
    check_unmasked("image", image)
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
