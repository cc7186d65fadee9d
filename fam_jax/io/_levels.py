"""Pictures of any mode as RGB of 8 bits: grey levels by the file's type, colours in sRGB."""

import warnings
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

Window = tuple[float | int, float | int]

_WINDOW = "say which are black and white: --window LOW HIGH, or pictures.Reader(window=(low, high))"
_LITTLE = 1 / 4  # of the range of a file's type
_OUTSIDE = 1 / 100  # of the pixels, that may lie outside the range of floats
_BAND = 2**20  # pixels that are in memory as floats at a time
_UNLIKE_SRGB = 2  # grey levels: a profile that moves no colour by more is sRGB
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of a profile, and the mode it is for


class PictureWarning(UserWarning):
    """A picture is read, but perhaps not as it is meant."""


class _LevelsWarning(PictureWarning):
    """Because of its grey levels."""


class _ProfileWarning(PictureWarning):
    """Because of its colour profile."""


def is_deep(image: Image.Image) -> bool:
    """Whether a picture, not yet loaded, has colours of 16 bits: Pillow reads their upper 8."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())) and _is_eight(image)


def _is_eight(image: Image.Image) -> bool:
    return not image.mode.startswith(("I", "F"))


def type_range(image: Image.Image) -> Window | None:
    """Black and white of a grey picture of more than 8 bits, by its file's type; None: unknown."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]
        return 0.0, 2.0**bits - 1
    if image.mode == "F":
        return 0.0, 1.0
    return (0.0, 65535.0) if image.format in ("PNG", "PPM") else None


def eight_bits(
    image: Image.Image, limits: Window | None, window: Window | None, name: str
) -> Image.Image:
    """A grey picture of more than 8 bits with its levels from `window`, else `limits`, to 0..255.

    Raises:
        ValueError: neither is known, or many values lie outside.
    """
    values = np.asarray(image)
    finite = np.isfinite(values) if image.mode == "F" else None
    lost = 0 if finite is None else values.size - int(finite.sum())
    if lost == values.size:
        raise ValueError(f"{name} has no finite grey level")
    inside: Any = True if not lost else finite
    least, most = (
        f(values, where=inside, initial=start) if lost else f(values)
        for f, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    span = f"values from {least:g} to {most:g}"
    if window is None:
        if limits is None:
            raise ValueError(f"{name} holds {span}, and its type does not {_WINDOW}")
        low, high = limits
        outside = np.count_nonzero((values < low) | (values > high))
        if outside > _OUTSIDE * values.size:
            raise ValueError(f"{name} holds {span}, where {low:g} to {high:g} are read; {_WINDOW}")
        if 0 < most - least <= _LITTLE * (high - low):
            _warn(f"{name} holds {span}, little of {low:g} to {high:g}; {_WINDOW}")
    if lost:
        _warn(f"{name}: {lost:,} of its grey levels are not finite, and read as black")
    low, high = window or limits or (0.0, 1.0)
    out = np.empty(values.shape, np.uint8)
    rows = max(1, _BAND // values.shape[1])
    for y in range(0, len(values), rows):
        unit = (values[y : y + rows].astype(np.float64) - low) / (high - low)
        out[y : y + rows] = np.clip(np.nan_to_num(255 * unit) + 0.5, 0, 255)
    return Image.fromarray(out)


def warn_if_dark(image: Image.Image, name: str) -> None:
    """Warn of colours of 16 bits that use little of their range."""
    extrema = np.reshape(image.getextrema(), (-1, 2))[:3]
    low, high = extrema.min(), extrema.max()
    if high - low <= 255 * _LITTLE:
        _warn(
            f"{name} has colours of 16 bits that use little of their range: levels {low} to {high} "
            "of 255"
        )


def in_srgb(image: Image.Image, name: str) -> Image.Image:
    """The colours as sRGB, where the picture has a profile that says they are others."""
    profile = image.info.pop("icc_profile", None)
    if not profile:
        return image
    try:
        mode, transform = _transform(profile)
    except (OSError, ValueError, ImageCms.PyCMSError):
        _warn(
            f"{name}: its colour profile is damaged, or of another kind; read as sRGB",
            _ProfileWarning,
        )
        return image
    fits = {"L": ("1", "L", "LA"), "CMYK": ("CMYK",)}.get(mode)
    if transform is None or (image.mode not in fits if fits else image.mode == "CMYK"):
        return image
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if mode == "L" else "RGBA")
        alpha = image.getchannel("A")
    image = transform.apply(image.convert(mode))
    if alpha is not None:
        image.putalpha(alpha)
    image.info.pop("icc_profile", None)  # of sRGB, now
    return image


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, Any]:
    """The mode that a profile is for, and what takes it to sRGB: None where it is sRGB."""
    source: Any = ImageCms.ImageCmsProfile(BytesIO(profile))
    mode = _SPACES.get(source.profile.xcolor_space)
    if mode is None:
        raise ValueError
    target = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, mode, "RGB")
    if mode == "RGB":
        some = (
            np.stack(np.meshgrid(*3 * [np.arange(0, 256, 15)]), -1)
            .reshape(-1, 18, 3)
            .astype(np.uint8)
        )
        there = np.asarray(transform.apply(Image.fromarray(some)), int)
        if np.abs(there - some).max() <= _UNLIKE_SRGB:
            transform = None
    return mode, transform


def rgb(image: Image.Image) -> Image.Image:
    """A picture of 8 bits in RGB, what is transparent on white."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _warn(text: str, kind: type[PictureWarning] = _LevelsWarning) -> None:
    warnings.warn(text, kind, stacklevel=2)
