"""Pictures in and out, with Pillow."""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fam_jax._core.brief import legible, message
from fam_jax._core.extras import needed

MIN_SIDE, MAX_SIDE = 8, 16_384  # pixels
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})


def read(path: str | os.PathLike) -> Image.Image:
    """The picture in a file as it should be seen: upright, RGB, 8 bits.

    EXIF orientation is applied; transparency is laid on white; palettes, grey, CMYK, 16-bit and
    floating-point pictures are converted; of several frames the first is taken. The path is of a
    file in any format Pillow reads, or its URL (gs://bucket/a.jpg), which needs the extra `bulk`.

    Raises:
        ValueError: not a picture, damaged, or a side outside 8 .. 16384 pixels.
        OSError: if there is no such file, or it may not be read.

    Example:
        >>> import tempfile, pathlib
        >>> from PIL import Image
        >>> from fam_jax.io import pictures
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (20, 10), 128).save(file)
        >>> pictures.read(file).mode
        'RGB'
    """
    with no_size_warnings():
        return read_in_thread(path)


def readable(
    paths: Iterable[str | os.PathLike], left_out: dict[str, str]
) -> Iterator[tuple[Any, Image.Image]]:
    """Those of the pictures that can be read, each with its path; why not goes into `left_out`.

    Example:
        >>> from fam_jax.io import pictures
        >>> left_out = {}
        >>> list(pictures.readable(["nowhere.png"], left_out)), left_out
        ([], {'nowhere.png': 'no such file: nowhere.png'})
    """
    for path in paths:
        try:
            picture = read(path)
        except (OSError, ValueError) as error:
            left_out[str(path)] = message(error)
        else:
            yield path, picture


@contextmanager
def no_size_warnings() -> Iterator[None]:
    """Without Pillow's warnings about large pictures, in all threads: the sides are checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def read_in_thread(path: str | os.PathLike) -> Image.Image:
    """`read` for one of many threads, all of them inside one `no_size_warnings`."""
    try:
        with _path(path).open("rb") as file:
            return _decode(file, path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no such file: {legible(path)}") from None
    except IsADirectoryError:
        raise IsADirectoryError(
            f"{legible(path)} is a folder; a picture file is expected"
        ) from None


def _decode(file: IO[bytes], path: str | os.PathLike) -> Image.Image:
    if not file.read(1):
        raise ValueError(f"{legible(path)} is empty (0 bytes)")
    file.seek(0)
    try:
        with Image.open(file) as image:
            _check_sides(path, image.size)
            image.load()
            return _as_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError(f"{legible(path)} is not a picture that Pillow can read") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{legible(path)} has too many pixels; shrink it first") from None
    except PermissionError:
        raise
    except (OSError, SyntaxError, EOFError) as error:
        # Pillow reports damage by format: OSError for JPEG, SyntaxError for PNG, ...
        raise ValueError(f"{legible(path)} is damaged: {message(error)}") from None


def _check_sides(path: str | os.PathLike, size: tuple[int, int]) -> None:
    width, height = size
    given = f"{legible(path)} is {width} x {height} pixels"
    if min(size) < MIN_SIDE:
        raise ValueError(f"{given}; at least {MIN_SIDE} on each side are needed")
    if max(size) > MAX_SIDE:
        raise ValueError(f"{given}; at most {MAX_SIDE} on each side are read, shrink it first")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 bits in some type of integer, floats to 1 or 255
        values = np.nan_to_num(np.asarray(image).astype(np.float64))
        if image.mode == "F":
            white = 1 if values.max() <= 1 else 255
        else:
            white = 65535 if values.max() > 255 else 255
        values = np.clip(values * (255 / white) + 0.5, 0, 255)
        image = Image.fromarray(values.astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def find(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """The picture files among `paths`: a file stands for itself, a folder for `listed` of it."""
    files = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {legible(path)}")
        files += map(Path, listed(path)) if path.is_dir() else [path]
    return files


def listed(folder: str | os.PathLike) -> list[str]:
    """The pictures in a folder and in the folders in it, whole paths, sorted.

    The folder is a local one, or a URL (gs://bucket/folder), which needs the extra `bulk`.
    FileNotFoundError if there is none, or no picture in it.

    Example:
        >>> import tempfile, pathlib
        >>> from fam_jax.io import pictures
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> (folder / "cats").mkdir()
        >>> (folder / "cats" / "a.jpg").touch()
        >>> pictures.listed(folder) == [str(folder / "cats" / "a.jpg")]
        True
    """
    path = _path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"no such folder: {legible(folder)}")
    if isinstance(path, Path):
        path = path.absolute()
    files = sorted(_pictures_in(path))
    if not files:
        raise FileNotFoundError(
            f"no pictures in the folder {legible(path)} ({', '.join(sorted(SUFFIXES))})"
        )
    return files


def _path(path: str | os.PathLike) -> Any:
    if "://" not in os.fspath(path):
        return Path(path)
    with needed("pictures behind a URL need", "bulk"):
        from etils import epath
    try:
        return epath.Path(path)
    except KeyError:  # of its table of schemes
        raise ValueError(f"{legible(path)}: URLs of this kind are not read") from None


def _pictures_in(folder: Any) -> Iterator[str]:
    for path in folder.iterdir():
        if path.suffix.lower() in SUFFIXES:
            yield str(path)
        elif path.is_dir():
            yield from _pictures_in(path)
