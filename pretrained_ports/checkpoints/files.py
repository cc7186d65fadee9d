"""Files on the disk: which one is meant, what it holds, its hash; one file, or one in pieces."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pretrained_ports.checkpoints.errors import CheckpointError, one_line
from pretrained_ports.checkpoints.torch_files import read_torch

TORCH_SUFFIXES = (".pth", ".pt", ".pkl", ".th", ".ckpt", ".bin", ".tar")
_SAFE, _INDEX = ".safetensors", ".index.json"
_ADDRESS = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib leaves one / of https://
_LIST = 2**24  # bytes of a list of pieces: 100,000 tensors


def find_file(path: Path) -> Path:
    """The file that holds a checkpoint, or the list of its pieces, if a folder is named.

    Raises:
        CheckpointError: No such file, none of a known kind, none or several in the folder.
    """
    if path.is_dir():
        path = _in_folder(path)
    if not path.exists() and _ADDRESS.match(str(path)):
        raise CheckpointError(f"{path} is an address; download the file, and name that")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if not path.is_file():
        raise CheckpointError(f"{path} is no regular file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty")
    if not _known(path):
        known = " ".join((_SAFE, *TORCH_SUFFIXES, _INDEX))
        raise CheckpointError(f"{path} is none of the known kinds of checkpoint: {known}")
    return path


def content_of(path: Path) -> tuple[Any, dict[str, str]]:
    """What a file holds, and the header of a `.safetensors` file."""
    if path.name.lower().endswith(_INDEX):
        return _joined(path), {}
    return _read(path)


def stored_bytes(path: Path) -> int:
    """Size of a file, with its pieces."""
    return sum(file.stat().st_size for file in _files(path))


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file, of one in pieces of all of them, one behind the other."""
    digest = hashlib.sha256()
    for part in _files(find_file(Path(path)) if Path(path).is_dir() else Path(path)):
        with part.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _known(path: Path) -> bool:
    return path.name.lower().endswith((_SAFE, *TORCH_SUFFIXES, _INDEX))


def _in_folder(folder: Path) -> Path:
    """The list of the pieces; or the only checkpoint, of the same one in two formats the safe."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and _known(file))
    for ending in (f"{_SAFE}{_INDEX}", _INDEX, _SAFE, ""):
        fitting = [file for file in files if file.name.lower().endswith(ending)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(one_line(file.name) for file in fitting[:6])
            raise CheckpointError(f"{folder} is a folder of several checkpoints, name one: {names}")
    raise CheckpointError(f"{folder} is a folder, not a checkpoint file, and has none in it")


def _read(path: Path) -> tuple[Any, dict[str, str]]:
    if not path.name.lower().endswith(_SAFE):
        return read_torch(path), {}
    try:
        with safe_open(path, framework="numpy") as file:
            keys = file.keys()
            tensors, metadata = {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except (SafetensorError, OSError, AttributeError) as error:  # the last: a type numpy lacks
        raise CheckpointError(
            f"{path} is not a safetensors file: {one_line(str(error))}"
        ) from error
    return tensors | _left_out(tensors, metadata), metadata


def _left_out(tensors: dict[str, np.ndarray], header: dict[str, str]) -> dict[str, np.ndarray]:
    """Tensors that are another's, which safetensors leaves out: its header has name -> the other.

    Files that this package writes have other things there.
    """
    if header.get("dialect") == "native":
        return {}
    return {
        name: tensors[other]
        for name, other in header.items()
        if other in tensors and name not in tensors
    }


def _joined(path: Path) -> dict[str, Any]:
    """The tensors of all pieces, each from the piece that the list says."""
    pieces, places, tensors = _pieces(path), _places(path), {}
    for name, piece in pieces.items():
        held, _ = _read(piece)
        if not isinstance(held, dict):
            raise CheckpointError(f"{piece} holds no dictionary of tensors")
        wanted = [key for key, place in places.items() if place == name]
        if lacking := [key for key in wanted if key not in held]:
            raise CheckpointError(
                f"{piece} has no tensor {one_line(lacking[0])}, which {path.name} says is there"
            )
        tensors |= {key: held[key] for key in wanted}
    return tensors


def _files(path: Path) -> Iterator[Path]:
    yield path
    if path.name.lower().endswith(_INDEX):
        yield from _pieces(path).values()


def _pieces(path: Path) -> dict[str, Path]:
    """The files of a list, by name, all of them beside it."""
    pieces = {}
    for name in dict.fromkeys(_places(path).values()):
        piece = path.with_name(name) if name and Path(name).name == name else None
        if piece is None or piece.name.lower().endswith(_INDEX) or not _known(piece):
            raise CheckpointError(f"{path} names what is no checkpoint beside it: {one_line(name)}")
        pieces[name] = find_file(piece)
    return pieces


def _places(path: Path) -> dict[str, str]:
    """Name of a tensor -> name of the piece that it is in."""
    try:
        with path.open("rb") as file:
            text = file.read(_LIST + 1)
        if len(text) > _LIST:
            raise ValueError("it is too long")
        places = json.loads(text)["weight_map"]
        if not places or not all(isinstance(place, str) for place in places.values()):
            raise TypeError("it names no files")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no list of the pieces of a checkpoint: "
            f"{one_line(f'{type(error).__name__}: {error}')}"
        ) from error
    return places
