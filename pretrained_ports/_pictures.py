"""Pictures from files and arrays, their colours in sRGB."""

import os
from functools import lru_cache
from io import BytesIO
from os import PathLike, fspath
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
_MANY_IN_ONE = ("MPO", "PSD")  # formats whose first frame is the picture, the others parts of it
_MOST = 100_000_000  # pixels that are read: 0.4 GB
_UNLIKE_SRGB = 2  # grey levels: a profile that moves no colour by more is sRGB


def read(path: str | PathLike[str]) -> Image.Image:
    """The picture in a file, upright, what is transparent on white."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise ValueError(f"{fspath(path)} is a pipe or a device; a picture file is expected")
    try:
        with Image.open(path) as file:
            if file.width * file.height > _MOST:
                raise Image.DecompressionBombError
            frames = 1 if file.format in _MANY_IN_ONE else getattr(file, "n_frames", 1)
            image = in_srgb(ImageOps.exif_transpose(file))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    except UnidentifiedImageError:
        raise ValueError(f"{fspath(path)} is not a picture that Pillow can read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{fspath(path)} has too many pixels; shrink it first") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {fspath(path)}") from None
    except (IsADirectoryError, PermissionError, MemoryError):  # their own lines say what is wrong
        raise
    except Exception as error:  # Pillow reports damage by format
        raise ValueError(f"{fspath(path)} is damaged: {error}") from None
    if frames > 1:
        raise ValueError(
            f"{fspath(path)} has {frames} pages, or frames; give it the picture of one"
        )
    return image


def as_picture(image: Any) -> Image.Image:
    """A PIL image from a PIL image, in sRGB, or a uint8 array [H W], [H W 1] or [H W 3].

    Raises:
        TypeError: Not a picture, or an array of another type than uint8.
        ValueError: An array of another shape, or a picture of more than 8 bits per channel.

    Examples:
        >>> as_picture(np.zeros((4, 6), np.uint8)).size
        (6, 4)
    """
    if isinstance(image, Image.Image):
        if image.mode not in _EIGHT_BIT_MODES:
            raise ValueError(
                f"image has mode {image.mode!r}; expected 8 bits per channel, such as 'RGB' or 'L'"
            )
        if isinstance(image.info.get("transparency"), bytes):
            image = image.convert("RGBA")  # Pillow warns where a palette's alpha is lost on the way
        return in_srgb(image)
    if not (hasattr(image, "dtype") and hasattr(image, "__array__")):
        raise TypeError(
            f"image is a {type(image).__name__}; expected a PIL image or a uint8 array "
            "[H W], [H W 1] or [H W 3]"
        )
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"image is an array of {pixels.dtype}; expected uint8 grey levels from 0 to 255"
        )
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,)) or 0 in pixels.shape:
        raise ValueError(
            f"image has shape {list(pixels.shape)}; expected [H W], [H W 1] or [H W 3]"
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)


def in_srgb(image: Image.Image) -> Image.Image:
    """The picture in sRGB, where it has a profile that says its colours are others.

    A damaged profile, and one for another kind of colours than the picture's, says nothing.
    """
    profile = image.info.get("icc_profile")
    try:
        mode, transform = _transform(profile) if profile else ("", None)
    except (OSError, ValueError, ImageCms.PyCMSError):
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
    image.info.pop("icc_profile", None)
    return image


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, Any]:
    """The mode that a profile is for, and what takes it to sRGB: None where it is sRGB."""
    source: Any = ImageCms.ImageCmsProfile(BytesIO(profile))
    modes = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
    if (mode := modes.get(source.profile.xcolor_space)) is None:
        raise ValueError
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "RGB":
        some = (
            np.stack(np.meshgrid(*3 * [np.arange(0, 256, 15)]), -1)
            .reshape(-1, 18, 3)
            .astype(np.uint8)
        )
        there = np.asarray(transform.apply(Image.fromarray(some)), int)
        transform = None if np.abs(there - some).max() <= _UNLIKE_SRGB else transform
    return mode, transform
