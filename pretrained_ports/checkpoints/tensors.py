"""Tensors as a file describes them, before anything of theirs is read."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

_DIMENSIONS = 64  # as many as an array of numpy has at most


class RefusedError(ValueError):
    """A file that asks for more than data."""


@dataclass(eq=False)
class Storage:
    """Elements that tensors share; their bytes are set once they are known to be in the file."""

    dtype: np.dtype
    count: int
    data: memoryview | bytes = b""


@dataclass(frozen=True, eq=False)
class Tensor:
    """The elements of a tensor, all within its storage; the offset is in bytes."""

    storage: Storage
    dtype: np.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        """A view of the storage's bytes."""
        if 0 in self.size:
            return np.zeros(self.size, self.dtype)
        steps = [
            step * self.dtype.itemsize if size > 1 else 0
            for size, step in zip(self.size, self.stride, strict=True)
        ]
        return np.ndarray(self.size, self.dtype, self.storage.data, self.offset, steps)


@dataclass(frozen=True, eq=False)
class Unread:
    """A tensor that has no array: sparse, quantised, ..."""

    kind: str


@dataclass(frozen=True, eq=False)
class Inert:
    """Data beside the weights, of which only the name is kept."""

    name: str


class Part(NamedTuple):
    """A run of a storage's elements: files of old have storages that are parts of others."""

    storage: Storage
    start: int
    count: int


def tensor(part: Any, offset: Any, size: Any, stride: Any, dtype: np.dtype | None = None) -> Tensor:
    """A tensor whose every element is within its part of a storage."""
    storage: Storage = of_type(part, Part).storage
    dtype = storage.dtype if dtype is None else dtype
    of_length(of_type(size, tuple), len(of_type(stride, tuple)))
    if not counts(offset, *size, *stride) or len(size) > _DIMENSIONS:
        raise ValueError("a tensor has a size, stride or offset that is no count")
    if math.prod(max(n, 1) for n in size) * dtype.itemsize >= 2**62:
        raise ValueError("a tensor has more elements than any memory")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * dtype.itemsize > part.count * storage.dtype.itemsize:
        raise ValueError("a tensor reaches beyond its storage")
    start = part.start * storage.dtype.itemsize + offset * dtype.itemsize
    return Tensor(storage, dtype, start, size, stride)


def of_type(value: Any, kind: type) -> Any:
    """The value, if it is of just this type."""
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def of_length(items: Any, length: int) -> Any:
    """The items, if there are so many."""
    if len(items) != length:
        raise ValueError(f"expected {length} items, got {len(items)}")
    return items


def counts(*values: Any) -> bool:
    """Whether all are whole numbers from 0."""
    return all(type(value) is int and value >= 0 for value in values)
