"""Arrays from .npz files, of which nothing is allocated that the file does not hold."""

import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from fam_jax._core.brief import legible, message

_GROWTH, _LITTLE = 100, 2**28  # times its bytes that a file may fill, and what any may
_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as numpy writes them
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load(path: str | os.PathLike[str], needed: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name.

    Args:
        path: the file.
        needed: names that are in it, or it is refused.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no .npz file or damaged; or an array's header gives a shape for which its
            bytes are too few or too many, or objects; the file would fill too much, or lacks what
            is needed.

    Examples:
        >>> import tempfile, pathlib
        >>> import numpy as np
        >>> from fam_jax.io import arrays
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "maps.npz"
        >>> np.savez_compressed(file, maps=np.zeros((2, 7, 7)))
        >>> arrays.load(file)["maps"].shape
        (2, 7, 7)
    """
    with open(path, "rb") as file, _said_of(path), zipfile.ZipFile(file) as archive:
        fills, size = sum(one.file_size for one in archive.infolist()), Path(path).stat().st_size
        if fills > _GROWTH * size + _LITTLE:
            raise ValueError(f"it would fill {fills:,} bytes from {size:,}")
        found = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
        if missing := [name for name in needed if name not in found]:
            raise ValueError(f"it has no array {legible(', '.join(missing))}")
        return {name: _read(archive, one) for name, one in found.items()}


@contextmanager
def _said_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever a damaged file does, as one line that names it."""
    try:
        yield
    except Exception as error:  # of zip, of deflate, of the parser of a header: any
        raise ValueError(
            f"{legible(path)} is no .npz file of ours, or damaged: {message(error)}"
        ) from None


def _read(archive: zipfile.ZipFile, one: zipfile.ZipInfo) -> np.ndarray:
    if one.compress_type not in _STORED:
        raise ValueError(f"{legible(one.filename)} is compressed as numpy does not do it")
    with archive.open(one) as file:
        _check(file, one)
    with archive.open(one) as file:
        return npy.read_array(file, allow_pickle=False)


def _check(file: Any, one: zipfile.ZipInfo) -> None:
    """Raise ValueError for a header that does not say what follows it."""
    name, version = legible(one.filename), npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name} is of version {version[0]}.{version[1]} of .npy")
    header: Any = _HEADERS[version](file)
    shape, _, kind = header
    if kind.hasobject:
        raise ValueError(f"{name} holds objects, not numbers")
    count, there = math.prod(shape), one.file_size - file.tell()
    if any(n < 0 for n in shape) or count * kind.itemsize != there or count > max(there, 1):
        raise ValueError(
            f"the header of {name} gives {legible(list(shape))} of {kind}, which are not the "
            f"{there:,} bytes behind it"
        )
