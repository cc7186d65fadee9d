"""Reads checkpoint files into plain numpy arrays, whatever they are wrapped in.

A checkpoint is untrusted input: pickled files go through torch's restricted unpickler only, which
builds tensors and plain containers and runs nothing else.
"""

import argparse
import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

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


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not fit the model."""


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


def read(path: str | Path) -> Checkpoint:
    """Read `.safetensors`, or with torch installed `.pth .pt .pkl .th .ckpt .bin .tar`.

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
        content, metadata = _read_torch(path), {}
    else:
        known = " ".join((".safetensors", *TORCH_SUFFIXES))
        raise CheckpointError(f"{path} is none of the known kinds of checkpoint: {known}")
    tensors, unwrapped, ignored = unwrap(content, path)
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
    while isinstance(content, Mapping) and not _tensor_keys(content):
        wrapper = next((w for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if wrapper is None:
            break
        ignored |= {str(key): f"beside {wrapper!r}" for key in content if key != wrapper}
        unwrapped.append(wrapper)
        content = content[wrapper]
    if not isinstance(content, Mapping) or not _tensor_keys(content):
        contents = (
            f"keys {list(content)}" if isinstance(content, Mapping) else type(content).__name__
        )
        raise CheckpointError(f"{path} holds no dictionary of tensors; found {_clip(contents)}")

    keys = _tensor_keys(content)
    ignored |= {str(key): "not a tensor" for key in content if key not in keys}
    tensors = {key: _as_numpy(content[key], key, path) for key in keys}
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None):
        unwrapped.append(prefix)
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors, tuple(unwrapped), ignored


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            keys = file.keys()
            return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except (SafetensorError, OSError, AttributeError) as error:  # the last: a type numpy lacks
        raise CheckpointError(f"{path} is not a safetensors file: {_clip(str(error))}") from error


def _read_torch(path: Path) -> Any:
    try:
        import torch  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise CheckpointError(
            f'{path.name} needs torch to be read: pip install "fam-jax[torch]" (in a clone: '
            'pip install ".[torch]"), or convert it to .safetensors where torch is installed'
        ) from error
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise CheckpointError(
                    f"{path} is a TorchScript program, not a checkpoint; "
                    "save its state_dict() with torch.save where it can be trusted"
                )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of old pickles before it refuses them
            with torch.serialization.safe_globals(_inert()):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # bytes from anywhere make the reader fail in any way
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise CheckpointError(
                f"{path} is refused: it holds a Python object, {refused[1]}, beside tensors and "
                "plain data; nothing in it was run"
            ) from error
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint, or is damaged ({type(error).__name__})"
        ) from error


def _inert() -> list:
    """What training scripts put beside the weights, and which can do nothing but hold values."""
    numbers = [type(np.dtype(code)) for code in "?bhilqBHILQefd"]
    # Files name numpy's module as it was called when they were written.
    scalar = np.float64(0).__reduce__()[0]
    scalars = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, np.dtype, *numbers, *scalars]


def _tensor_keys(content: Mapping) -> list[str]:
    """The names of the numpy arrays and torch tensors (known without importing torch)."""
    return [
        key
        for key, value in content.items()
        if isinstance(key, str) and (isinstance(value, np.ndarray) or hasattr(value, "data_ptr"))
    ]


def _as_numpy(value: Any, key: str, path: Path) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    import torch  # pyright: ignore[reportMissingImports]

    try:
        value = value.detach()
        if value.dtype == torch.bfloat16:
            return value.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        return value.numpy()
    except (RuntimeError, TypeError) as error:  # sparse, quantised, without storage
        raise CheckpointError(f"{path}: cannot read tensor {key}: {_clip(str(error))}") from error


def _clip(text: str, limit: int = 160) -> str:
    """The text on one line, shortened."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
