"""Pictures in and out, with Pillow."""

import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from threading import Condition
from typing import IO, Any, TypeVar

from PIL import Image, ImageOps, UnidentifiedImageError

from fam_jax._core.brief import legible, message
from fam_jax.io import _levels
from fam_jax.io._levels import PictureWarning as PictureWarning
from fam_jax.io._listing import Listing as Listing
from fam_jax.io._listing import check_address as check_address
from fam_jax.io._listing import find as find
from fam_jax.io._listing import formats, place
from fam_jax.io._listing import is_hidden as is_hidden
from fam_jax.io._listing import is_picture as is_picture
from fam_jax.io._listing import listed as listed
from fam_jax.io._listing import scan as scan

MIN_SIDE, MAX_SIDE = 8, 16_384  # pixels
MAX_PIXELS = 100_000_000  # of a picture, and of all that are being read at a time
# glibc gives what is larger than 32 MiB back to the system; pieces of Pillow's usual size stay with
# each thread that has read a large picture: 0.4 GB of 16 threads.
if "PILLOW_BLOCK_SIZE" not in os.environ:
    Image.core.set_block_size(2**26)
Result = TypeVar("Result")
_MANY_IN_ONE = ("MPO", "PSD")  # formats whose first frame is the picture, the others parts of it
_SUBFILE, _REDUCED = 254, 1  # tag of a TIFF's page, and the bit that says it is a smaller copy


@dataclass(frozen=True)
class Reader:
    """How pictures are read: a path -> the picture as it should be seen, upright, RGB, 8 bits.

    EXIF orientation is applied; colours are converted to sRGB where the file has a profile;
    transparency is laid on white; palettes, grey and CMYK are converted. Grey levels of more than
    8 bits are scaled by the file's type: whole numbers of n bits from 0 .. 2^n - 1, floats from
    0 .. 1, clipped; a `PictureWarning` says where they use a quarter of that or less.

    Args:
        window: the values, (low, high), that are black and white in grey pictures of more than 8
            bits; others are read as they are.
        page: which one of files with several pages or frames, from 1.
        convert: False leaves the mode and the values as the file holds them.

    Raises:
        ValueError: `window` or `page` is none.

    Examples:
        >>> import tempfile, pathlib
        >>> import numpy as np
        >>> from PIL import Image
        >>> from fam_jax.io import pictures
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "twelve-bits.png"
        >>> Image.fromarray(np.full((8, 8), 2048, np.uint16)).save(file)
        >>> pictures.Reader(window=(0, 4095))(file).getpixel((0, 0))
        (128, 128, 128)
    """

    window: tuple[float | int, float | int] | None = None
    page: int | None = None
    convert: bool = True

    def __post_init__(self):
        if self.window is not None:
            low, high = self.window
            if not (isfinite(low) and isfinite(high) and low < high):
                raise ValueError(f"window: expected two numbers, low < high, got {low:g} {high:g}")
        if self.page is not None and self.page < 1:
            raise ValueError(f"page: expected 1 or more, got {self.page}")

    def __call__(self, path: str | os.PathLike) -> Image.Image:
        """The picture in a file; see `read`."""
        with reading():
            return self.read_in_thread(path)

    def read_in_thread(self, path: str | os.PathLike) -> Image.Image:
        """The same for one of many threads, all of them inside one `reading`."""
        with self.opened(path) as picture:
            return picture

    @contextmanager
    def opened(self, path: str | os.PathLike) -> Iterator[Image.Image]:
        """The picture while a block runs; blocks of large ones wait for each other."""
        with _opened(path) as file:
            image = _header(file, path)
            _check_size(path, image.size)
            with _room(image.width * image.height):
                yield self._decoded(image, legible(path))

    def facts(self) -> dict[str, Any]:
        """What differs from the usual, as plain values: `Reader.of` makes one of them again."""
        facts = {
            "window": None if self.window is None else list(self.window),
            "page": self.page,
            "convert": None if self.convert else False,
        }
        return {name: value for name, value in facts.items() if value is not None}

    @classmethod
    def of(cls, settings: Any) -> "Reader":
        """The reader of a store with these settings, or of a manifest."""
        facts = dict(settings.get("reading") or {})
        return cls(tuple(facts.pop("window", ())) or None, facts.get("page"))

    def _decoded(self, image: Image.Image, name: str) -> Image.Image:
        self._turn_to_page(image, name)
        limits, deep = _levels.type_range(image), _levels.is_deep(image)
        _undamaged(image.load, name=name)
        _undamaged(partial(ImageOps.exif_transpose, in_place=True), image, name=name)
        if not self.convert:
            return image
        if image.mode.startswith(("I", "F")):
            icc = image.info.get("icc_profile")
            image = _levels.eight_bits(image, limits, self.window, name)
            image.info["icc_profile"] = icc
        elif deep and self.window:
            raise ValueError(f"{name} has colours of 16 bits; a window is of grey levels")
        elif deep:
            _levels.warn_if_dark(image, name)
        return _undamaged(_levels.rgb, _levels.in_srgb(image, name), name=name)

    def _turn_to_page(self, image: Image.Image, name: str) -> None:
        pages, page = _undamaged(_pages, image, name=name), 1
        if len(pages) > 1:
            if self.page is None:
                raise ValueError(
                    f"{name} has {len(pages)} pages, or frames; take one with --page N, or "
                    "pictures.Reader(page=N)"
                )
            if self.page > len(pages):
                raise ValueError(f"{name} has {len(pages)} pages: there is no page {self.page}")
            page = self.page
        if image.tell() != pages[page - 1]:
            _undamaged(image.seek, pages[page - 1], name=name)
            _check_size(name, image.size)


READER = Reader()  # the usual way


def read(path: str | os.PathLike) -> Image.Image:
    """The picture in a file as `Reader()` reads it: upright, RGB, 8 bits.

    The path is of a file in any format Pillow reads, or its URL (gs://bucket/a.jpg), which needs
    the extra `bulk`.

    Raises:
        ValueError: not a picture, damaged, of several pages, a side outside 8 .. 16384 pixels,
            more than 100 million of them, or grey levels of which the type does not say what is
            black and white.
        OSError: if there is no such file, or it may not be read.

    Examples:
        >>> import tempfile, pathlib
        >>> from PIL import Image
        >>> from fam_jax.io import pictures
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (20, 10), 128).save(file)
        >>> pictures.read(file).mode
        'RGB'
    """
    return READER(path)


def readable(
    paths: Iterable[str | os.PathLike], left_out: dict[str, str], reader: Reader | None = None
) -> Iterator[tuple[Any, Image.Image]]:
    """Those of the pictures that can be read, each with its path; why not goes into `left_out`.

    Examples:
        >>> from fam_jax.io import pictures
        >>> left_out = {}
        >>> list(pictures.readable(["nowhere.png"], left_out)), left_out
        ([], {'nowhere.png': 'no such file: nowhere.png'})
    """
    for path in paths:
        picture, reason = tried(reader or READER, path)
        if picture is None:
            left_out[str(path)] = reason
        else:
            yield path, picture


def tried(read: Callable[[Any], Result], path: str | os.PathLike) -> tuple[Result | None, str]:
    """What reading a file comes to, and why it comes to nothing: that stays with its row.

    The one place where whatever a stranger's file does is caught. The reason names the file.

    Examples:
        >>> from fam_jax.io import pictures
        >>> pictures.tried(pictures.read, "nowhere.png")
        (None, 'no such file: nowhere.png')
    """
    try:
        return read(path), ""
    except Exception as error:  # of a decoder, of a bucket, of a reader of one's own: any
        reason = message(error)
        known = legible(path) in reason or legible(os.path.basename(path)) in reason
        return None, reason if known else f"{legible(path)}: {reason}"


@contextmanager
def reading() -> Iterator[None]:
    """In all threads: without Pillow's warnings of sizes, one `PictureWarning` of every kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        show, told = warnings.showwarning, set()

        def once(text: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not (issubclass(category, PictureWarning) and category in told):
                show(text, category, *where, **more)
            told.add(category)

        warnings.showwarning = once
        yield


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    where = place(path)
    try:
        if isinstance(where, Path) and not (
            stat.S_ISREG(mode := where.stat().st_mode) or stat.S_ISDIR(mode)
        ):
            raise ValueError(f"{legible(path)} is a pipe or a device; a picture file is expected")
        file = where.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no such file: {legible(path)}") from None
    except IsADirectoryError:
        raise IsADirectoryError(
            f"{legible(path)} is a folder; a picture file is expected"
        ) from None
    with file:
        yield file


def _header(file: IO[bytes], path: str | os.PathLike) -> Image.Image:
    if not file.read(1):
        raise ValueError(f"{legible(path)} is empty (0 bytes)")
    file.seek(0)
    return _undamaged(partial(Image.open, formats=formats()), file, name=legible(path))


def _undamaged(step: Callable[..., Any], *args: Any, name: str) -> Any:
    """What a step of Pillow's comes to; a ValueError that names the file for what it raises."""
    try:
        return step(*args)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture that Pillow can read") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has too many pixels; shrink it first") from None
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # by format: OSError, SyntaxError, struct.error, one's own
        raise ValueError(f"{name} is damaged: {message(error)}") from None


def _pages(image: Image.Image) -> list[int]:
    """The frames of a file that are pictures for themselves."""
    frames = getattr(image, "n_frames", 1)
    if frames == 1 or image.format in _MANY_IN_ONE:
        return [image.tell()]
    if image.format != "TIFF":
        return list(range(frames))
    whole = []
    for frame in range(frames):
        image.seek(frame)
        if not getattr(image, "tag_v2", {}).get(_SUBFILE, 0) & _REDUCED:
            whole.append(frame)
    return whole or [0]


def _check_size(path: str | os.PathLike, size: tuple[int, int]) -> None:
    width, height = size
    given = f"{legible(path)} is {width} x {height} pixels"
    if min(size) < MIN_SIDE:
        raise ValueError(f"{given}; at least {MIN_SIDE} on each side are needed")
    if max(size) > MAX_SIDE:
        raise ValueError(f"{given}; at most {MAX_SIDE} on each side are read, shrink it first")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{given}; at most {MAX_PIXELS:,} are read, shrink it first")


class _Room:
    """So many pixels are being read at a time, in all threads."""

    def __init__(self) -> None:
        self._free, self._changed = MAX_PIXELS, Condition()

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: pixels <= self._free)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_room = _Room()
