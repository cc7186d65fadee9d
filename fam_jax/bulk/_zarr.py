"""The store of a job: a zarr v3 group of arrays, with one file per chunk and array.

zarr.json                       attributes: what was asked, and with what
pairs.parquet                   query, reference, id, label of every row; or, of a grid,
queries.parquet, references.parquet
query_maps, reference_maps      [..., h, w], as stored
ranges                          [..., 2, 2]: low, high of both maps, unless they are float32
boxes                           [..., 2, 4]: what the network saw of both pictures (left, top,
                                right, bottom in the picture's own pixels)
scores                          [...], NaN where there is none
reason                          [..., TEXT], UTF-8: why a row is not valid
status                          [...]: 0 not done, 1 valid, 2 not valid; a chunk's last array

A chunk is written once, by one process, each file whole or not at all, so a job that was stopped
goes on at the first chunk without a `status`.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

from fam_jax._core.brief import escaped, legible, message
from fam_jax.store import INVALID

TEXT = 160  # bytes of a text; longer ones are cut
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_ZSTD = {"name": "zstd", "configuration": {"level": 1}}
_ROOT, _STATUS = "zarr.json", "status"
_SYSTEM_ERRORS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Read-only file system",
    "Permission denied",
)


class Column(NamedTuple):
    """An array of a group: `tail` are its axes after the rows', `fill` a row without a result."""

    dtype: str
    tail: tuple[int, ...] = ()
    fill: float | str = 0
    compress: bool = True


STATUS_COLUMNS = {_STATUS: Column("uint8"), "reason": Column("uint8", (TEXT,))}


class StoreError(OSError):
    """A store cannot be written or read; one line."""


def absolute(path: str | os.PathLike) -> str:
    """A local path made absolute, or a URL (gs://bucket/folder) as it is; no slash at the end."""
    text = os.fspath(path)
    return text.rstrip("/") if "://" in text else os.path.abspath(text)


def wait(*futures: Any, doing: str) -> list[Any]:
    """Results of TensorStore's futures; a `StoreError` for what the storage refuses."""
    try:
        return [future.result() for future in futures]
    except Exception as error:  # TensorStore raises by its own status codes
        text = message(error)
        # The operating system's message, without TensorStore's text around it.
        known = (message for message in _SYSTEM_ERRORS if message.lower() in text.lower())
        raise StoreError(f"cannot {escaped(doing)}: {next(known, text[:300])}") from None


def _kvstore(path: str) -> Any:
    """TensorStore's key-value store of a path: a local folder, gs://..., s3://..."""
    # Not as a URL where it is none: folders may be called "50% off?".
    spec = f"{path}/" if "://" in path else {"driver": "file", "path": f"{path}/"}
    return wait(ts.KvStore.open(spec), doing=f"open {path}")[0]


def read_settings(path: str) -> dict[str, Any] | None:
    """What a store was made with; None where there is no store."""
    root = _kvstore(path)
    entry = wait(root.read(_ROOT), doing=f"read {path}")[0]
    if entry.state != "value":
        return None
    try:
        return json.loads(entry.value)["attributes"]["fam_jax"]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{legible(path)} is a zarr group of something else") from None


def write_settings(path: str, settings: Mapping[str, Any]) -> None:
    """Make the group: from here on it is a store."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"fam_jax": dict(settings)}}
    text = json.dumps(group, indent=2, sort_keys=True).encode()
    wait(_kvstore(path).write(_ROOT, text), doing=f"write {path}")


class Group:
    """Arrays with the same leading axes, of `shape`, written chunk by chunk.

    `STATUS_COLUMNS` are among them. With `write`, those that are not there yet are made.
    """

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        chunk_shape: tuple[int, ...],
        columns: Mapping[str, Column],
        *,
        write: bool = False,
    ) -> None:
        self.path, self.shape, self.chunk_shape = path, shape, chunk_shape
        self.columns = dict(columns)
        self.grid = tuple(-(-n // c) for n, c in zip(shape, chunk_shape, strict=True))
        self._root = _kvstore(path)
        opened = [
            ts.open(self._spec(name, column), create=write, open=True, read=True, write=write)
            for name, column in self.columns.items()
        ]
        doing = f"{'write' if write else 'read'} {path}"
        self._arrays = dict(zip(self.columns, wait(*opened, doing=doing), strict=True))

    def _spec(self, name: str, column: Column) -> dict[str, Any]:
        grid = {"chunk_shape": [*self.chunk_shape, *column.tail]}
        # Named, since the lowest version of TensorStore compresses an array whose codecs are none.
        # Texts and flags are one byte wide: they have no byte order.
        order = {"name": "bytes"} if column.dtype == "uint8" else _LITTLE
        return {
            "driver": "zarr3",
            "kvstore": (self._root / f"{name}/").spec().to_json(),
            "metadata": {
                "shape": [*self.shape, *column.tail],
                "data_type": column.dtype,
                "chunk_grid": {"name": "regular", "configuration": grid},
                "fill_value": column.fill,
                "codecs": [order, _ZSTD] if column.compress else [order],
            },
        }

    def __len__(self) -> int:
        return prod(self.grid)

    def slices(self, chunk: int) -> tuple[slice, ...]:
        """Where a chunk lies in the leading axes."""
        index = np.unravel_index(chunk, self.grid)
        return tuple(
            slice(int(i) * c, min((int(i) + 1) * c, n))
            for i, c, n in zip(index, self.chunk_shape, self.shape, strict=True)
        )

    def chunk_rows(self, chunk: int) -> int:
        """How many rows a chunk has; the last ones may have fewer."""
        return prod(part.stop - part.start for part in self.slices(chunk))

    def written(self) -> np.ndarray:
        """Which chunks are written, [chunks]: those whose `status` is."""
        prefix = f"{_STATUS}/c/"
        keys = wait(
            self._root.list(ts.KvStore.KeyRange(prefix, f"{_STATUS}/c0")),
            doing=f"read {self.path}",
        )[0]
        written = np.zeros(len(self), bool)
        for key in keys:
            parts = key.decode().removeprefix(prefix).split("/")
            if len(parts) == len(self.grid) and all(part.isdigit() for part in parts):
                written[np.ravel_multi_index([int(part) for part in parts], self.grid)] = True
        return written

    def write(self, chunks: Mapping[int, Mapping[str, np.ndarray]]) -> None:
        """Write the arrays [rows, ...] of some chunks; `status` when all else is on the disk."""
        arrays, statuses = [], []
        for chunk, parts in chunks.items():
            slices = self.slices(chunk)
            for name, part in parts.items():
                target = self._arrays[name][slices]
                writes = statuses if name == _STATUS else arrays
                writes.append((target, part.reshape(target.shape)))
        for writes in (arrays, statuses):
            wait(*(target.write(part) for target, part in writes), doing=f"write {self.path}")

    def read(self, name: str, index: Any = ...) -> np.ndarray:
        """A part of an array."""
        return self.read_arrays([name], index)[name]

    def read_arrays(self, names: Iterable[str], index: Any) -> dict[str, np.ndarray]:
        """The same part of some arrays, read at the same time."""
        reads = {name: self._arrays[name][index].read() for name in names}
        parts = wait(*reads.values(), doing=f"read {self.path}")
        return dict(zip(reads, parts, strict=True))

    def count_invalid(self) -> int:
        """How many rows are done, but without a result."""
        return int(np.sum(self.read(_STATUS) == INVALID))


def encode_text(texts: Sequence[str], size: int = TEXT) -> np.ndarray:
    """Texts as bytes [n, size], zero at the end; cut between characters."""
    rows = [text.encode()[:size].decode(errors="ignore").encode() for text in texts]
    return np.array(rows, f"S{size}").view(np.uint8).reshape(len(rows), size)


def decode_text(rows: np.ndarray) -> list[str]:
    """The texts of `encode_text`."""
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]
