"""What a job is about: pairs of pictures, a chunk of them at a time.

A chunk is what one device computes in one go and what one file of the store holds. It names each
of its pictures once; its pairs are two rows of that list.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from etils import epath

from fam_jax._core.checks import check_count
from fam_jax.bulk import tables
from fam_jax.io.pictures import SUFFIXES


class Chunk(NamedTuple):
    """Some pairs.

    Attributes:
        pictures: paths, each once.
        query: the row in `pictures` of each pair's query.
        reference: that of its reference.
    """

    pictures: list[str]
    query: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True, eq=False)
class Listed:
    """Pairs from a table; made by `listed`. Rows stay in the table until their chunk's turn."""

    source: Any
    batch: int
    scanned: tables.Scan
    root: str

    FILES = frozenset(tables.names(tables.FILE))

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,)."""
        return (self.scanned.rows,)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """(batch,)."""
        return (self.batch,)

    @property
    def distinct(self) -> int:
        """At most so many pictures in a chunk."""
        return self.scanned.distinct

    def facts(self) -> dict[str, Any]:
        """What tells these pairs from others."""
        return {
            "pairs": self.scanned.rows,
            "pairs_sha256": self.scanned.sha256,
            "pictures_root": self.root,
        }

    def save(self, folder: epath.Path) -> None:
        """Write them into the store."""
        tables.save(self.source, self.batch, folder / tables.FILE)

    def opened(self, folder: epath.Path) -> "Saved":
        """The same pairs, read from the store."""
        return Saved(folder / tables.FILE, self.batch, self.distinct, self.root)


class Saved:
    """Pairs in a store's own table, read a group of rows at a time.

    Attributes:
        shape: (n,).
        chunk_shape: (batch,).
        distinct: at most so many pictures in a chunk.
    """

    def __init__(self, file: epath.Path, batch: int, distinct: int, root: str) -> None:
        self.shape = (tables.rows(file),)
        self.chunk_shape = (batch,)
        self.distinct = distinct
        self._file, self._root = file, root
        self._group = tables.group_rows(batch)
        self._rows = lru_cache(maxsize=4)(self._read)
        # A chunk is asked for once per picture, from many threads.
        self._chunks = lru_cache(maxsize=64)(self._found)

    def __reduce__(self) -> tuple:
        # A cache cannot be sent to another process; the file can be opened there.
        return Saved, (self._file, self.chunk_shape[0], self.distinct, self._root)

    def _read(self, group: int) -> pa.Table:
        return tables.read_group(self._file, group, tables.NEEDED)

    def chunk(self, index: int) -> Chunk:
        """Some consecutive pairs."""
        return self._chunks(index)

    def _found(self, index: int) -> Chunk:
        group, row = divmod(index * self.chunk_shape[0], self._group)
        rows = self._rows(group).slice(row, self.chunk_shape[0])
        return _chunk(*self._located(rows))

    def pictures(self) -> list[str]:
        """All distinct pictures."""
        found: dict[str, None] = {}
        for group in range(-(-self.shape[0] // self._group)):
            for names in self._located(self._read(group)):
                found.update(dict.fromkeys(names))
        return list(found)

    def _located(self, rows: pa.Table) -> list[list[str]]:
        return [
            [located(name, self._root) for name in rows[side].to_pylist()] for side in tables.NEEDED
        ]


def located(name: str, root: str) -> str:
    """Where a picture is: names are relative to the table's folder, unless they are whole."""
    return name if "://" in name or not root else str(epath.Path(root) / name)


def _chunk(queries: Sequence[str], references: Sequence[str]) -> Chunk:
    rows = {name: i for i, name in enumerate(dict.fromkeys((*queries, *references)))}
    index = lambda names: np.array([rows[name] for name in names], np.int32)  # noqa: E731
    return Chunk(list(rows), index(queries), index(references))


def listed(source: Any, batch: int) -> Listed:
    """Pairs from a table file, or from rows; see `fam_jax.bulk.run`.

    Raises:
        FileNotFoundError, ValueError: one line: what is wrong with the table, and where.
    """
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        source = epath.Path(source)
        root = str(source.parent.absolute() if "://" not in str(source) else source.parent)
    else:
        source, root = list(source), ""
    return Listed(source, batch, tables.scan(source, batch), root)


@dataclass(frozen=True, eq=False)
class Grid:
    """Every query with every reference; made by `grid`. Chunks are tiles of the grid."""

    queries: Sequence[str]
    references: Sequence[str]
    chunk_shape: tuple[int, ...]

    FILES = frozenset(tables.names("queries.parquet", "references.parquet"))

    @property
    def shape(self) -> tuple[int, ...]:
        """(queries, references)."""
        return len(self.queries), len(self.references)

    @property
    def distinct(self) -> int:
        """At most so many pictures in a tile."""
        return sum(self.chunk_shape)

    @cached_property
    def _digest(self) -> str:
        return sha256(
            "\n\n".join("\n".join(x) for x in (self.queries, self.references)).encode()
        ).hexdigest()

    def chunk(self, index: int) -> Chunk:
        """The pairs of a tile."""
        (q, r), (Q, R) = self.chunk_shape, self.shape
        i, j = divmod(index, -(-R // r))
        queries = self.queries[i * q : min(i * q + q, Q)]
        references = self.references[j * r : min(j * r + r, R)]
        return _chunk(
            [a for a in queries for _ in references], [b for _ in queries for b in references]
        )

    def opened(self, folder: epath.Path) -> "Grid":
        """The same pairs: their names are in memory."""
        return self

    def pictures(self) -> list[str]:
        """All distinct pictures."""
        return list(dict.fromkeys((*self.queries, *self.references)))

    def facts(self) -> dict[str, Any]:
        """What tells these pairs from others."""
        Q, R = self.shape
        return {"queries": Q, "references": R, "pairs_sha256": self._digest}

    def save(self, folder: epath.Path) -> None:
        """Write the names into the store."""
        for name, paths in (("queries", self.queries), ("references", self.references)):
            tables.write(folder / f"{name}.parquet", {"path": list(paths)})


def grid(queries: Sequence[str], references: Sequence[str], batch: int) -> Grid:
    """All pairs of two lists of pictures, in nearly square tiles of at most `batch` pairs.

    Raises:
        ValueError: an empty list, or a batch below 1.

    Example:
        >>> from fam_jax import bulk
        >>> bulk.grid(["a.jpg", "b.jpg"], ["c.jpg", "d.jpg", "e.jpg"], batch=4).shape
        (2, 3)
    """
    check_count("batch", batch)
    if not (queries and references):
        raise ValueError("a grid needs at least one query and one reference")
    Q, R = len(queries), len(references)
    side = next(s for s in range(isqrt(batch), 0, -1) if batch % s == 0)
    q = min(side, Q)
    r = min(batch // q, R)
    return Grid(queries, references, (min(batch // r, Q), r))


Pairs = Saved | Grid


def folder_pictures(folder: str | os.PathLike) -> list[str]:
    """The pictures in a folder and the folders in it, sorted by path.

    Raises:
        FileNotFoundError: if there is no such folder, or no picture in it.
    """
    folder = epath.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    if "://" not in str(folder):
        folder = folder.absolute()
    found = sorted(_pictures_in(folder))
    if not found:
        raise FileNotFoundError(
            f"no pictures in the folder {folder} ({', '.join(sorted(SUFFIXES))})"
        )
    return found


def _pictures_in(folder: epath.Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.suffix.lower() in SUFFIXES:
            yield str(path)
        elif path.is_dir():
            yield from _pictures_in(path)
