"""Reads checkpoint files into plain numpy arrays, whatever they are wrapped in.

A checkpoint is untrusted input: pickles are read by a table of what they may hold (`pickled.py`),
and nothing in them runs. PyTorch is not needed.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pretrained_ports.checkpoints.errors import CheckpointError, one_line
from pretrained_ports.checkpoints.files import content_of, find_file, stored_bytes
from pretrained_ports.checkpoints.files import sha256 as sha256
from pretrained_ports.checkpoints.tensors import Tensor, Unread

# Dictionaries that training scripts put around the weights, in the order in which they are taken
# where several hold a network; those of other names are looked into, too.
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

_LAYERS = 8  # of dictionaries, or of prefixes
_NAME = 500  # letters of a tensor's name: the tables' patterns take time by their square
_GROWTH = 100  # how often a file's bytes may be used, by layers that share their weights
_FEW = 8  # times fewer tensors than the largest dictionary: what is beside a network


class Dictionary(NamedTuple):
    """A dictionary of a file: its tensors, and all its keys as text."""

    tensors: Mapping[str, np.ndarray]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file, or of a part of it.

    Attributes:
        path: Where they come from.
        tensors: Key -> array.
        unwrapped: What was taken off, in order: "state_dict", "module.".
        ignored: Entries that were left out -> why.
        metadata: The header of a `.safetensors` file.
        dictionaries: All dictionaries of the file, by the names on the way there.
        names: The names of dictionaries and prefixes on the way to these tensors.
    """

    path: Path
    tensors: Mapping[str, np.ndarray]
    unwrapped: tuple[str, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    dictionaries: Mapping[tuple[str, ...], Dictionary] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self.tensors)} tensors)"


def read(path: str | Path) -> Checkpoint:
    """Read `.safetensors`, or PyTorch's `.pth .pt .pkl .th .ckpt .bin .tar` of any version.

    A checkpoint in pieces is named by its `.index.json`, or by its folder. What is read of a
    PyTorch file is a view of the file, which cannot be written.

    Returns:
        The tensors of the usual dictionary; what else is there stands in `dictionaries`.

    Raises:
        CheckpointError: No such file, no checkpoint, no tensors in it, or it holds more than data.

    Examples:
        >>> import tempfile
        >>> from safetensors.numpy import save_file
        >>> file = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> save_file({"module.conv1.weight": np.zeros((8, 3, 7, 7), np.float32)}, file)
        >>> checkpoint = read(file)
        >>> list(checkpoint.tensors), checkpoint.unwrapped
        (['conv1.weight'], ('module.',))
    """
    path = find_file(Path(path))
    content, metadata = content_of(path)
    return replace(unwrap(content, path), metadata=metadata)


def unwrap(content: Any, path: Path) -> Checkpoint:
    """The tensors in a file's content, without the dictionaries and prefixes around them.

    Raises:
        CheckpointError: No tensors are found, or they would fill more than the file can hold.
    """
    found = _dictionaries(content)
    sizes = {names: len(one.tensors) for names, one in found.items() if one.tensors}
    if not sizes:
        contents = (
            f"keys {list(islice(content, 20))}"
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise CheckpointError(f"{path} holds no dictionary of tensors; found {one_line(contents)}")
    filled = sum(_bytes(tensor) for one in found.values() for tensor in one.tensors.values())
    if filled > _GROWTH * stored_bytes(path) + 2**26:
        raise CheckpointError(f"{path}: its tensors share their elements, and would fill too much")
    most = max(sizes.values())
    usual = min(sizes, key=lambda names: (sizes[names] * _FEW < most, *order(names)))
    for key, tensor in found[usual].tensors.items():
        if isinstance(tensor, Unread):
            raise CheckpointError(
                f"{path}: cannot read tensor {one_line(key)}: it is {tensor.kind}; "
                "torch can make plain numbers of it (to_dense(), dequantize()) to save instead"
            )
    if (letters := max(map(len, found[usual].tensors))) > _NAME:
        raise CheckpointError(f"{path}: a tensor has a name of {letters} letters, {_NAME} may be")
    readable = {names: Dictionary(_arrays(one.tensors), one.keys) for names, one in found.items()}
    return part_at(Checkpoint(path, {}, dictionaries=readable), usual)


def part_at(whole: Checkpoint, names: tuple[str, ...], *, strip: bool = True) -> Checkpoint:
    """One dictionary of a file; its tensors without the usual prefixes that all of them share."""
    ignored = dict[str, str]()
    for i, name in enumerate(names):
        above = whole.dictionaries[names[:i]].keys
        ignored |= {key: f"beside {name!r}" for key in above if key != name}
    tensors, keys = whole.dictionaries[names]
    ignored |= {key: "not a tensor" for key in keys if key not in tensors}
    prefixes = []
    while strip and tensors and len(prefixes) < _LAYERS:
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), None)
        if prefix is None:
            break
        prefixes.append(prefix)
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return replace(
        whole,
        tensors=tensors,
        unwrapped=(*names, *prefixes),
        ignored=ignored,
        names=(*names, *(prefix.rstrip(".") for prefix in prefixes)),
    )


def order(names: tuple[str, ...]) -> tuple[int, list[int]]:
    """How usual the way to some tensors is: how many unknown names, then which of those known."""
    usual = (*WRAPPERS, *(prefix.rstrip(".") for prefix in PREFIXES))
    known = [usual.index(name) for name in names if name in usual]
    return len(names) - len(known), known


def _dictionaries(content: Any) -> dict[tuple[str, ...], Dictionary]:
    """All dictionaries and lists in a content, each of them once: they may hold themselves."""
    found: dict[tuple[str, ...], Dictionary] = {}
    queue: deque[tuple[tuple[str, ...], Any]] = deque([((), content)])
    seen = {id(content)}
    while queue:
        names, holder = queue.popleft()
        keyed = isinstance(holder, Mapping)
        items = holder.items() if keyed else enumerate(holder) if type(holder) is list else ()
        texts, tensors = [], {}
        for key, value in items:
            if keyed:
                texts.append(_text(key))
                if isinstance(key, str) and isinstance(value, np.ndarray | Tensor | Unread):
                    tensors[key] = value
            if isinstance(value, Mapping | list) and value and id(value) not in seen:
                seen.add(id(value))
                if len(names) < _LAYERS:
                    queue.append(((*names, _text(key)), value))
        found[names] = Dictionary(tensors, tuple(texts))
    return found


def _arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Views of a file; none if one of them cannot be read, or has a name that is too long."""
    if any(isinstance(tensor, Unread) for tensor in tensors.values()):
        return {}
    if any(len(key) > _NAME for key in tensors):
        return {}
    return {k: t.array() if isinstance(t, Tensor) else t for k, t in tensors.items()}


def _bytes(tensor: np.ndarray | Tensor | Unread) -> int:
    match tensor:
        case Tensor():
            return math.prod(tensor.size) * tensor.dtype.itemsize
        case np.ndarray():
            return tensor.nbytes
    return 0


def _text(key: Any) -> str:
    return one_line(key if isinstance(key, str) else repr(key))
