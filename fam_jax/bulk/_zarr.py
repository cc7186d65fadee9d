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

A chunk is written once, by one process, each file whole or not at all and with a checksum, so a job
that was stopped goes on at the first chunk that lacks a file, and one that was damaged computes
again what is.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

from fam_jax._core.brief import address, escaped, legible, message
from fam_jax.io.pictures import check_address
from fam_jax.store import INVALID, NOT_DONE

TEXT = 160  # bytes of a text; longer ones are cut
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_ZSTD = {"name": "zstd", "configuration": {"level": 1}}
_CHECKSUM = {"name": "crc32c"}
_DAMAGED = "DATA_LOSS", "FAILED_PRECONDITION"  # of a checksum, of a codec
_READ_AT_ONCE = 64  # chunks, to be checked
_NAMED = 5  # rows in a message
_STATUS = "status"
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
    """A store cannot be written or read, or is damaged; one line."""


def absolute(path: str | os.PathLike) -> str:
    """A local path made absolute, or a URL (gs://bucket/folder) as it is; no slash at the end."""
    text = os.fspath(path)
    check_address(text)
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


def kvstore(path: str) -> Any:
    """TensorStore's key-value store of a path: a local folder, gs://..., s3://..."""
    # Not as a URL where it is none: folders may be called "50% off?".
    spec = f"{path}/" if "://" in path else {"driver": "file", "path": f"{path}/"}
    return wait(ts.KvStore.open(spec, context=_soon()), doing=f"open {path}")[0]


@cache
def _soon() -> Any:
    """Where a bucket does not answer, an error in moments; TensorStore asks for a quarter-hour."""
    retries = {"max_retries": 6, "initial_delay": "250ms", "max_delay": "2s"}
    return ts.Context({"gcs_request_retries": retries, "s3_request_retries": retries})


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
        self._root = kvstore(path)
        if write:
            _refuse_links(path)
        opened = [
            ts.open(
                self._spec(name, column),
                create=write,
                open=True,
                read=True,
                write=write,
                context=_soon(),
            )
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
            "store_data_equal_to_fill_value": True,  # what has no file is not there
            "metadata": {
                "shape": [*self.shape, *column.tail],
                "data_type": column.dtype,
                "chunk_grid": {"name": "regular", "configuration": grid},
                "fill_value": column.fill,
                "codecs": [order, _ZSTD, _CHECKSUM] if column.compress else [order, _CHECKSUM],
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
        """Which chunks are written, [chunks]: those of which every array has its file."""
        files = np.zeros(len(self), int)
        for name in self.columns:
            prefix = f"{name}/c/"
            keys = wait(
                self._root.list(ts.KvStore.KeyRange(prefix, f"{name}/c0")),
                doing=f"read {self.path}",
            )[0]
            chunks = {self._chunk_of(key.decode().removeprefix(prefix)) for key in keys}
            files[[chunk for chunk in chunks if chunk is not None]] += 1
        return files == len(self.columns)

    def _chunk_of(self, key: str) -> int | None:
        """The number of a chunk from what its files are called."""
        parts = key.split("/")[: len(self.grid)]  # what follows is 0: other axes are not divided
        numbers = [int(part) for part in parts if part.isdigit()]
        if len(numbers) < len(self.grid) or any(
            number >= n for number, n in zip(numbers, self.grid, strict=True)
        ):
            return None
        return int(np.ravel_multi_index(numbers, self.grid))

    def remove_damaged(self) -> np.ndarray:
        """Read and check every chunk; those that are damaged are gone then. Which are left."""
        whole = self.written()
        chunks = np.flatnonzero(whole).tolist()
        for start in range(0, len(chunks), _READ_AT_ONCE):
            some = chunks[start : start + _READ_AT_ONCE]
            reads = [self._reads(chunk) for chunk in some]
            for chunk, parts in zip(some, reads, strict=True):
                whole[chunk] = all(self._is_whole(part) for part in parts.values())
        for chunk in set(chunks).difference(np.flatnonzero(whole).tolist()):
            # A chunk at the edge is read where it is written again.
            for name in reversed(self.columns):
                key = self._key(name, chunk)
                wait(self._root.write(key, None), doing=f"write {self.path}")
        return whole

    def damaged(self, rows: Any = ...) -> dict[int, list[str]]:
        """Flat rows -> the arrays that are damaged there; of all rows, or of some."""
        numbers, found = np.arange(prod(self.shape)).reshape(self.shape), {}
        wanted = set(numbers[rows].reshape(-1).tolist())
        for chunk in np.flatnonzero(self.written()).tolist():
            if own := wanted.intersection(numbers[self.slices(chunk)].reshape(-1).tolist()):
                reads = self._reads(chunk)
                if names := [name for name, part in reads.items() if not self._is_whole(part)]:
                    found |= dict.fromkeys(own, names)
        return found

    def _reads(self, chunk: int) -> dict[str, Any]:
        """Futures of a chunk's arrays."""
        return {name: array[self.slices(chunk)].read() for name, array in self._arrays.items()}

    def _is_whole(self, read: Any) -> bool:
        """Whether what a future read is as it was written.

        StoreError if that could not be read: a disk or a network that fails damages nothing.
        """
        error = read.exception()
        if error is not None and not str(error).startswith(_DAMAGED):
            wait(read, doing=f"read {self.path}")
        return error is None

    def _key(self, name: str, chunk: int) -> str:
        """What the file of a chunk and an array is called."""
        place = map(int, np.unravel_index(chunk, self.grid))
        return "/".join([name, "c", *map(str, place), *("0" for _ in self.columns[name].tail)])

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
        """The same part of some arrays, read at the same time.

        Raises:
            StoreError: what cannot be read, or which rows are damaged.
        """
        reads = {name: self._arrays[name][index].read() for name in names}
        try:
            parts = wait(*reads.values(), doing=f"read {self.path}")
        except StoreError:
            if not (damaged := self.damaged(index)):
                raise
            raise StoreError(_says_damaged(self.path, damaged)) from None
        return dict(zip(reads, parts, strict=True))

    def read_status(self) -> np.ndarray:
        """Of every row: not done where a file of its chunk is not there."""
        status = self.read(_STATUS)
        for chunk in np.flatnonzero(~self.written()).tolist():
            status[self.slices(chunk)] = NOT_DONE
        return status

    def count_invalid(self) -> int:
        """How many rows are done, but without a result."""
        return int(np.sum(self.read_status() == INVALID))


def _refuse_links(path: str) -> None:
    """StoreError for a folder in a store that is a link: what is written would lie elsewhere."""
    if address(path):
        return
    for folder, folders, _ in os.walk(path):
        for name in folders:
            if os.path.islink(link := os.path.join(folder, name)):
                raise StoreError(f"{legible(link)} is a link; a store is not written through one")


def _says_damaged(path: str, rows: Mapping[int, Sequence[str]]) -> str:
    numbers = sorted(rows)
    some = ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")
    names = ", ".join(sorted({name for names in rows.values() for name in names}))
    return (
        f"{legible(path)} is damaged: {names} of {len(numbers):,} rows ({some}); the command that "
        "wrote it computes them again"
    )


def encode_text(texts: Sequence[str], size: int = TEXT) -> np.ndarray:
    """Texts as bytes [n, size], zero at the end; cut between characters."""
    rows = [text.encode()[:size].decode(errors="ignore").encode() for text in texts]
    return np.array(rows, f"S{size}").view(np.uint8).reshape(len(rows), size)


def decode_text(rows: np.ndarray) -> list[str]:
    """The texts of `encode_text`."""
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]
