"""Reads checkpoint files into plain numpy arrays, whatever they are wrapped in.

A checkpoint is untrusted input: pickles are read by a table of what they may hold (`pickled.py`),
and nothing in them runs. PyTorch is not needed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pretrained_ports.checkpoints.errors import CheckpointError, one_line
from pretrained_ports.checkpoints.tensors import Tensor, Unread
from pretrained_ports.checkpoints.torch_files import read_torch

TORCH_SUFFIXES = (".pth", ".pt", ".pkl", ".th", ".ckpt", ".bin", ".tar")

# Dictionaries that training scripts put around the weights, the first one present is taken.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "net_state_dict",
    "model",
    "net",
    "network",
    "teacher",
    "student",
    "params",
    "model_sd",
    "state",
)

# Prefixes that wrappers of a whole model put before every key.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")

_LAYERS = 8  # of wrappers, or of prefixes: a dictionary may contain itself
_NAME = 500  # letters of a tensor's name: the tables' patterns take time by their square
_GROWTH = 100  # how often a file's bytes may be used, by layers that share their weights


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file.

    Attributes:
        path: Where they come from.
        tensors: Key -> array.
        unwrapped: What was taken off, in order: "state_dict", "module.".
        ignored: Entries that were left out -> why.
        metadata: The header of a `.safetensors` file.
    """

    path: Path
    tensors: Mapping[str, np.ndarray]
    unwrapped: tuple[str, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self.tensors)} tensors)"


def read(path: str | Path) -> Checkpoint:
    """Read `.safetensors`, or PyTorch's `.pth .pt .pkl .th .ckpt .bin .tar` of any version.

    What is read of a PyTorch file is a view of the file, which cannot be written.

    Raises:
        CheckpointError: No such file, no checkpoint, no tensors in it, or it holds more than data.

    Example:
        >>> import tempfile
        >>> from safetensors.numpy import save_file
        >>> file = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> save_file({"module.conv1.weight": np.zeros((8, 3, 7, 7), np.float32)}, file)
        >>> checkpoint = read(file)
        >>> list(checkpoint.tensors), checkpoint.unwrapped
        (['conv1.weight'], ('module.',))
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a checkpoint file")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty")
    if path.suffix == ".safetensors":
        content, metadata = _read_safetensors(path)
    elif path.name.endswith(TORCH_SUFFIXES):
        content, metadata = read_torch(path), {}
    else:
        known = " ".join((".safetensors", *TORCH_SUFFIXES))
        raise CheckpointError(f"{path} is none of the known kinds of checkpoint: {known}")
    tensors, unwrapped, ignored = unwrap(content, path)
    if sum(array.nbytes for array in tensors.values()) > _GROWTH * path.stat().st_size + 2**26:
        raise CheckpointError(f"{path}: its tensors share their elements, and would fill too much")
    return Checkpoint(path, tensors, unwrapped, ignored, metadata)


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unwrap(
    content: Any, path: Path
) -> tuple[dict[str, np.ndarray], tuple[str, ...], dict[str, str]]:
    """Take dictionaries and prefixes off until tensors are left.

    Returns:
        The tensors, what was taken off, and what was left out and why.

    Raises:
        CheckpointError: No tensors are found.
    """
    unwrapped, ignored = [], {}
    while isinstance(content, Mapping) and not _tensor_keys(content) and len(unwrapped) < _LAYERS:
        wrapper = next((w for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if wrapper is None:
            break
        ignored |= {_text(key): f"beside {wrapper!r}" for key in content if key != wrapper}
        unwrapped.append(wrapper)
        content = content[wrapper]
    if not isinstance(content, Mapping) or not _tensor_keys(content):
        contents = (
            f"keys {list(islice(content, 20))}"
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise CheckpointError(f"{path} holds no dictionary of tensors; found {one_line(contents)}")

    tensors = {key: _as_numpy(content[key], key, path) for key in _tensor_keys(content)}
    if (letters := max(map(len, tensors))) > _NAME:
        raise CheckpointError(f"{path}: a tensor has a name of {letters} letters, {_NAME} may be")
    ignored |= {_text(key): "not a tensor" for key in content if key not in tensors}
    for _ in range(_LAYERS):
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None)
        if prefix is None:
            break
        unwrapped.append(prefix)
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors, tuple(unwrapped), ignored


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            keys = file.keys()
            return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except (SafetensorError, OSError, AttributeError) as error:  # the last: a type numpy lacks
        raise CheckpointError(
            f"{path} is not a safetensors file: {one_line(str(error))}"
        ) from error


def _text(key: Any) -> str:
    return one_line(key if isinstance(key, str) else repr(key))


def _tensor_keys(content: Mapping) -> list[str]:
    kinds = (np.ndarray, Tensor, Unread)
    return [k for k, value in content.items() if isinstance(k, str) and isinstance(value, kinds)]


def _as_numpy(value: np.ndarray | Tensor | Unread, key: str, path: Path) -> np.ndarray:
    if isinstance(value, Unread):
        raise CheckpointError(
            f"{path}: cannot read tensor {one_line(key)}: it is {value.kind}; "
            "torch can make plain numbers of it (to_dense(), dequantize()) to save instead"
        )
    return value.array() if isinstance(value, Tensor) else value
