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
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

VALID, INVALID = 1, 2
TEXT = 160  # bytes of a text; longer ones are cut
_ZSTD = {"name": "zstd", "configuration": {"level": 1}}
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_ROOT, _STATUS = "zarr.json", "status"
_SYSTEM = (
    "No space left on device", "Disk quota exceeded", "File too large", "Read-only file system",
    "Permission denied",
)  # fmt: skip


class Column(NamedTuple):
    """An array of a group.

    Attributes:
        dtype: of its values.
        tail: its axes after the rows'.
        fill: what stands where nothing was written.
        compress: whether its files are.
    """

    dtype: str
    tail: tuple[int, ...] = ()
    fill: float | str = 0
    compress: bool = True


STATUS = {_STATUS: Column("uint8"), "reason": Column("uint8", (TEXT,))}


class StoreError(OSError):
    """A store cannot be written or read; one line."""


def wait(*futures: Any, doing: str) -> list[Any]:
    """Results of TensorStore's futures; a `StoreError` for what the storage refuses."""
    try:
        return [future.result() for future in futures]
    except Exception as error:  # TensorStore raises by its own status codes
        raise _refused(error, doing) from None


def _refused(error: Exception, doing: str) -> StoreError:
    text = " ".join(str(error).split())
    # The system's own words, without TensorStore's around them.
    known = (words for words in _SYSTEM if words.lower() in text.lower())
    return StoreError(f"cannot {doing}: {next(known, text[:300])}")


def location(path: str) -> Any:
    """TensorStore's key-value store of a path: a local folder, gs://..., s3://..."""
    # Not as a URL where it is none: folders may be called "50% off?".
    spec = f"{path}/" if "://" in path else {"driver": "file", "path": f"{path}/"}
    return wait(ts.KvStore.open(spec), doing=f"open {path}")[0]


def read_settings(path: str) -> dict[str, Any] | None:
    """What a store was made with; None where there is no store."""
    root = location(path)
    found = wait(root.read(_ROOT), doing=f"read {path}")[0]
    if found.state != "value":
        return None
    try:
        return json.loads(found.value)["attributes"]["fam_jax"]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{path} is a zarr group of something else") from None


def write_settings(path: str, settings: Mapping[str, Any]) -> None:
    """Make the group: from here on it is a store."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"fam_jax": dict(settings)}}
    text = json.dumps(group, indent=2, sort_keys=True).encode()
    wait(location(path).write(_ROOT, text), doing=f"write {path}")


class Group:
    """Arrays with the same leading axes, written chunk by chunk.

    Args:
        path: the folder.
        shape: the leading axes.
        chunk_shape: of a chunk in these axes.
        columns: the arrays; `STATUS` among them.
        write: make those that are not there yet.
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
        self._root = location(path)
        opened = [
            ts.open(self._spec(name, column), create=write, open=True, read=True, write=write)
            for name, column in self.columns.items()
        ]
        doing = f"{'write' if write else 'read'} {path}"
        self._arrays = dict(zip(self.columns, wait(*opened, doing=doing), strict=True))

    def _spec(self, name: str, column: Column) -> dict[str, Any]:
        # Texts and flags are one byte wide: they have no byte order.
        order = {"name": "bytes"} if column.dtype == "uint8" else _LITTLE
        return {
            "driver": "zarr3",
            "kvstore": (self._root / f"{name}/").spec().to_json(),
            "metadata": {
                "shape": [*self.shape, *column.tail],
                "data_type": column.dtype,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [*self.chunk_shape, *column.tail]},
                },
                "fill_value": column.fill,
                "codecs": [order, _ZSTD] if column.compress else [order],
            },
        }

    def __len__(self) -> int:
        return prod(self.grid)

    def dtype(self, name: str) -> np.dtype:
        """Of an array, as numpy knows it."""
        return self._arrays[name].dtype.numpy_dtype

    def where(self, chunk: int) -> tuple[slice, ...]:
        """The rows of a chunk."""
        at = np.unravel_index(chunk, self.grid)
        return tuple(
            slice(int(i) * c, min((int(i) + 1) * c, n))
            for i, c, n in zip(at, self.chunk_shape, self.shape, strict=True)
        )

    def rows(self, chunk: int) -> int:
        """How many rows a chunk has; the last ones may have fewer."""
        return prod(part.stop - part.start for part in self.where(chunk))

    def done(self) -> np.ndarray:
        """Which chunks are written, [chunks]: those whose `status` is."""
        prefix = f"{_STATUS}/c/"
        keys = wait(
            self._root.list(ts.KvStore.KeyRange(prefix, f"{_STATUS}/c0")),
            doing=f"read {self.path}",
        )[0]
        found = np.zeros(len(self), bool)
        for key in keys:
            parts = key.decode().removeprefix(prefix).split("/")
            if len(parts) == len(self.grid) and all(part.isdigit() for part in parts):
                found[np.ravel_multi_index([int(part) for part in parts], self.grid)] = True
        return found

    def write(self, chunks: Mapping[int, Mapping[str, np.ndarray]]) -> None:
        """Write the arrays [rows, ...] of some chunks; `status` when all else is on the disk."""
        arrays, statuses = [], []
        for chunk, parts in chunks.items():
            where = self.where(chunk)
            shape = tuple(part.stop - part.start for part in where)
            for name, part in parts.items():
                target = self._arrays[name][where]
                todo = statuses if name == _STATUS else arrays
                todo.append((target, part.reshape(*shape, *part.shape[1:])))
        for todo in (arrays, statuses):
            wait(*(target.write(part) for target, part in todo), doing=f"write {self.path}")

    def read(self, name: str, where: Any) -> Any:
        """A future of a part of an array."""
        return self._arrays[name][where].read()

    def each(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Every chunk's part of an array, flat over the rows; some chunks in memory at a time."""
        ahead = 256
        for first in range(0, len(self), ahead):
            some = range(first, min(first + ahead, len(self)))
            futures = [self.read(name, self.where(chunk)) for chunk in some]
            for chunk, part in zip(some, wait(*futures, doing=f"read {self.path}"), strict=True):
                yield chunk, part.reshape(-1, *self.columns[name].tail)


def encode_text(texts: list[str]) -> np.ndarray:
    """Texts as bytes [n, TEXT], zero at the end; cut between characters."""
    rows = [text.encode()[:TEXT].decode(errors="ignore").encode() for text in texts]
    out = np.zeros((len(rows), TEXT), np.uint8)
    for row, data in zip(out, rows, strict=True):
        row[: len(data)] = np.frombuffer(data, np.uint8)
    return out


def decode_text(rows: np.ndarray) -> list[str]:
    """The texts of `encode_text`."""
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]
