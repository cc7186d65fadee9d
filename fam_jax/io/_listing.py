"""The pictures in a folder: what Pillow opens, every folder once, nothing hidden."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from fam_jax._core.brief import address, legible, message
from fam_jax._core.extras import needed

_SCHEMES = {"gs": "gcsfs", "s3": "s3fs"}  # and the package that reads them
# Programs that Pillow would start, and formats of which it knows the name alone.
_NOT_READ = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF", "PCD"}
_WITHOUT_MARK = {"TGA", "PCX", "CUR", "XBM", "MSP", "SPIDER", "IM", "IPTC", "FLI", "ICO"}


class Listing(NamedTuple):
    """Pictures of a folder, and how many other things there are, by what they are."""

    files: list[str]
    skipped: Mapping[str, int]

    def __str__(self) -> str:
        text = f"{len(self.files):,} pictures"
        parts = ", ".join(f"{count:,} {what}" for what, count in sorted(self.skipped.items()))
        return f"{text}; left out: {parts}" if parts else text


@cache
def formats() -> tuple[str, ...]:
    """What is read, by Pillow's names."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_READ)


@cache
def suffixes() -> frozenset[str]:
    """Of picture files, in lower case."""
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in formats())


def is_picture(path: Any) -> bool:
    """Whether a file is called as a picture, or begins as one whatever it is called."""
    if path.suffix.lower() in suffixes():
        return True
    marked = [name for name in formats() if name not in _WITHOUT_MARK]
    try:
        with path.open("rb") as file, Image.open(file, formats=marked):
            return True
    except Exception:  # whatever Pillow says of what is no picture
        return False


def is_hidden(path: Any) -> bool:
    """Whether a name is one that no listing shows: .DS_Store, ._photo.jpg."""
    return path.name.startswith(".")


def find(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """The picture files among `paths`: a file stands for itself, a folder for `listed` of it."""
    files = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {legible(path)}")
        files += map(Path, listed(path)) if path.is_dir() else [path]
    return files


def listed(folder: str | os.PathLike) -> list[str]:
    """The pictures in a folder and in the folders in it, whole paths, sorted: `scan(...).files`.

    Examples:
        >>> import tempfile, pathlib
        >>> from fam_jax.io import pictures
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> (folder / "cats").mkdir()
        >>> (folder / "cats" / "a.jpg").touch()
        >>> pictures.listed(folder) == [str(folder / "cats" / "a.jpg")]
        True
    """
    return scan(folder).files


def scan(folder: str | os.PathLike) -> Listing:
    """The pictures in a folder and in the folders in it, and what else there is.

    Pictures are the files that Pillow opens, by their suffix or else by how they begin. Hidden
    files and folders are left out; a folder that links lead to more than once is read once. The
    folder is a local one, or a URL (gs://bucket/folder), which needs the extra `bulk`.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.

    Examples:
        >>> import tempfile, pathlib
        >>> from fam_jax.io import pictures
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("a.jpg", "b.avif", "._a.jpg", "notes.txt"):
        ...     (folder / name).touch()
        >>> str(pictures.scan(folder))
        '2 pictures; left out: 1 hidden, 1 no pictures'
    """
    path = place(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"no such folder: {legible(folder)}")
    if isinstance(path, Path):
        path = path.absolute()
    files, skipped, seen, rest = [], Counter(), set(), [path]
    while rest:
        # Folders before links to them: a picture is named by the place where it is.
        here = rest.pop(0)
        real = os.path.realpath(here) if isinstance(here, Path) else str(here)
        if real in seen:
            skipped["links to folders that were read"] += 1
            continue
        seen.add(real)
        try:
            names = sorted(here.iterdir())
        except OSError as error:
            if here == path:
                raise OSError(f"{legible(here)}: {error.strerror or message(error)}") from None
            skipped["folders that may not be read"] += 1
            continue
        for one in names:
            if not _is_text(one.name):
                skipped["with names that are not UTF-8"] += 1
            elif is_hidden(one):
                skipped["hidden"] += 1
            elif one.is_dir():
                rest.append(one)
            elif isinstance(one, Path) and _is_special(one):
                skipped["neither files nor folders"] += 1
            elif is_picture(one):
                files.append(str(one))
            else:
                skipped["no pictures"] += 1
        rest.sort(key=lambda one: isinstance(one, Path) and one.is_symlink())
    if not files:
        raise FileNotFoundError(
            f"no pictures in the folder {legible(path)} ({Listing([], skipped)})"
        )
    return Listing(sorted(files), dict(skipped))


def _is_text(name: str) -> bool:
    """Whether a name can be written into a table: of bytes that are no UTF-8 none can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_special(path: Path) -> bool:
    """A fifo, a socket, a device; a broken link is a file that is missing."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def place(path: str | os.PathLike) -> Any:
    """A local path, or a URL of a kind that can be read."""
    if not (scheme := address(path)):
        return Path(path)
    check_address(path)
    with needed("files behind an address need", "bulk"):
        from etils import epath
    return epath.Path(_url(scheme, path))


def check_address(path: str | os.PathLike) -> None:
    """Raise ValueError for an address of a kind that is not read, or not without a package."""
    if not (scheme := address(path)):
        return
    url = legible(_url(scheme, path))
    if scheme not in _SCHEMES:
        read = " and ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise ValueError(
            f"{url} is an address of a kind that is not read: {read} are, others are downloaded "
            "first"
        )
    if find_spec(package := _SCHEMES[scheme]) is None:
        raise ValueError(f"{url}: addresses of {scheme}:// need {package}: pip install {package}")


def _url(scheme: str, path: str | os.PathLike) -> str:
    """An address as it was given: a path of pathlib has but one stroke."""
    return f"{scheme}://{os.fspath(path).partition(':')[2].lstrip('/')}"
