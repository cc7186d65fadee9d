"""Output written whole or not at all: a file; a folder, with a manifest to make it again."""

import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

import numpy as np

import fam_jax
from fam_jax._core.brief import address, legible

MANIFEST = "manifest.json"
_NAME = 100  # letters of a file's name in that of its part
_PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part", re.DOTALL)


def parts(folder: Any, names: Collection[str] | None = None) -> list[Any]:
    """What `whole` left in a folder when it was stopped; with `names`, of files by these names."""
    starts = None if names is None else {name[:_NAME] for name in names}
    found = [(file, _PART.fullmatch(file.name)) for file in folder.iterdir()]
    return [file for file, part in found if part and (starts is None or part[1] in starts)]


@contextmanager
def whole(path: Any) -> Iterator[Any]:
    """A temporary path that becomes `path`, of pathlib or etils, if the block ends well."""
    # A name of its own: a link that waited under a known one would be written through.
    part = path.with_name(f".{path.name[:_NAME]}.{token_hex(4)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as part:
        part.write_text(text)


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as an .npz file, whole or not at all."""
    with whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **cast(dict[str, Any], arrays))


def save_figure(path: Path, figure: Any) -> None:
    """Write a figure of matplotlib as a PNG, whole or not at all."""
    with whole(path) as part:
        figure.savefig(part, format="png")


@contextmanager
def folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """A staging folder; its files move to `path` when the block ends without an error.

    With `overwrite`, files of an earlier run go where its manifest lists them; others stay. A path
    that is a file, or cannot be written, raises OSError on entry, before any work is done.
    """
    path = Path(path)
    with _staging(path, overwrite=overwrite) as name:
        yield Path(name)
        path.mkdir(parents=True, exist_ok=True)
        for file in Path(name).iterdir():  # before anything of the earlier run goes
            if (path / file.name).is_dir():
                raise IsADirectoryError(
                    f"{legible(path / file.name)} is a folder; a file of that name is to be written"
                )
        for stale in _listed(path / MANIFEST):
            if not (path / stale).is_dir():
                (path / stale).unlink(missing_ok=True)
        # The manifest last: where it stands, everything it lists stands too.
        for file in sorted(Path(name).iterdir(), key=lambda f: f.name == MANIFEST):
            os.replace(file, path / file.name)


def refuse(path: Path, *, overwrite: bool) -> None:
    """Raise OSError where `folder` would: what is to be written there is refused before the work.

    FileExistsError for a file, and for what nobody said to replace; ValueError for an address.
    """
    with _staging(path, overwrite=overwrite):
        pass


def _staging(path: Path, *, overwrite: bool) -> tempfile.TemporaryDirectory:
    """A folder on the disk on which `path` will be."""
    if address(path):
        raise ValueError(f"{legible(path)} is an address; this is written to a local folder")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{legible(path)} is a file; a folder is expected")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise FileExistsError(
            f"the folder {legible(path)} is not empty; pass --overwrite or another folder"
        )
    base = next(p for p in (path, *path.absolute().parents) if p.exists())
    try:
        return tempfile.TemporaryDirectory(dir=base, prefix=".fam-jax-")
    except OSError as error:
        raise OSError(f"cannot write to {legible(path)}: {error.strerror or error}") from None


def _listed(manifest: Path) -> list[str]:
    """Plain file names an earlier manifest lists; nothing outside its folder."""
    try:
        names = json.loads(manifest.read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str) and Path(name).name == name]


def write_manifest(stage: Path, **facts: Any) -> list[str]:
    """Write manifest.json beside the other files of the stage; returns all their names."""
    files = [*sorted(f.name for f in stage.iterdir()), MANIFEST]
    text = json.dumps({"versions": versions(), **facts, "files": files}, indent=2)
    (stage / MANIFEST).write_text(text + "\n")
    return files


def versions() -> dict[str, str]:
    """Of what makes maps and figures."""
    own = {"fam-jax": fam_jax.__version__, "python": platform.python_version()}
    names = ("jax", "flax", "numpy", "pillow", "matplotlib")
    return own | {name: version(name) for name in names}


def file_facts(path: str | os.PathLike) -> dict[str, str]:
    """A file's path and SHA-256, for the manifest."""
    with open(path, "rb") as file:
        return {"path": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def found_again(facts: Mapping[str, str], folder: Path) -> Path:
    """Where the file of `traceable_facts` is now.

    Where it was; or from the folder the same way as then; or in the folder, or beside it.

    Raises:
        FileNotFoundError: it is in none of these places.
        ValueError: what is there is another file.
    """
    was, folder = Path(facts["path"]), folder.absolute()
    places = was, folder / facts["relative"], folder / was.name, folder.parent / was.name
    there = [Path(os.path.normpath(place)) for place in places if place.is_file()]
    for path in there:
        if file_facts(path)["sha256"] == facts["sha256"]:
            return path
    if there:
        raise ValueError(
            f"{legible(there[0])} has changed since {legible(folder)} was made: another SHA-256"
        )
    raise FileNotFoundError(
        f"no such file: {legible(was)}, nor {legible(was.name)} in {legible(folder)} or beside it"
    )


def traceable_facts(path: str | os.PathLike, folder: Path) -> dict[str, str]:
    """`file_facts` with the whole path, and the way from a folder to the file."""
    path = Path(path).absolute()
    return {**file_facts(path), "relative": os.path.relpath(path, folder.absolute())}
