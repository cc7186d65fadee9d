"""What a job is about: pairs of pictures, a chunk of them at a time.

A chunk is what one device computes in one go and what one file of the store holds. It names each
of its pictures once; its pairs are two rows of that list.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from etils import epath

from fam_jax._core.checks import check_count
from fam_jax.bulk import _tables
from fam_jax.io.pictures import check_address


class PairChunk(NamedTuple):
    """Pairs: their pictures, each once, and the rows of queries and references among them."""

    pictures: list[str]
    query: np.ndarray
    reference: np.ndarray

    @classmethod
    def of(cls, queries: Sequence[str], references: Sequence[str]) -> "PairChunk":
        """The chunk of some pairs."""
        rows = {path: i for i, path in enumerate(dict.fromkeys((*queries, *references)))}
        query, reference = (
            np.array([rows[path] for path in paths], np.int32) for paths in (queries, references)
        )
        return cls(list(rows), query, reference)


class TablePairs:
    """Pairs of a table file, or of rows; see `fam_jax.bulk.run`.

    Raises:
        FileNotFoundError, ValueError: one line: what is wrong with the table, and where.
    """

    FILES = (_tables.FILE,)

    def __init__(self, source: Any, batch: int) -> None:
        if isinstance(source, str | os.PathLike):
            check_address(source)
            source = epath.Path(source)
            self._root = str(source.parent if "://" in str(source) else source.parent.absolute())
        else:
            source, self._root = list(source), ""
        self.scan, self._source = _tables.scan(source, batch), source
        self.shape, self.chunk_shape = (self.scan.rows,), (min(batch, self.scan.rows),)
        self.max_pictures = self.scan.max_pictures

    def facts(self) -> dict[str, Any]:
        """What tells these pairs from others."""
        facts = {"pairs": self.scan.rows, "pairs_sha256": self.scan.sha256}
        return facts | {"pictures_root": self._root}

    def save(self, folder: epath.Path) -> None:
        """Write their names into the store."""
        _tables.save(self._source, self.chunk_shape[0], folder / _tables.FILE)

    def reopen(self, folder: epath.Path) -> "StoredPairs":
        """The same pairs, read from the store."""
        return StoredPairs(folder, *self.shape, self.chunk_shape, self._root, self.max_pictures)


@dataclass(frozen=True, eq=False)
class StoredPairs:
    """Pairs in a store's own table, read a group of rows at a time."""

    folder: epath.Path
    rows: int
    chunk_shape: tuple[int, ...]
    root: str
    max_pictures: int = 0  # of a chunk; not needed to read rows

    def __reduce__(self) -> tuple:
        # A cache cannot be sent to another process; the file can be opened there.
        return StoredPairs, tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def _groups(self) -> Any:
        return lru_cache(maxsize=4)(partial(_tables.read_group, self.folder / _tables.FILE))

    @cached_property
    def chunk(self) -> Any:
        """A chunk by its number."""
        # A chunk is asked for once per picture, from many threads.
        return lru_cache(maxsize=64)(self._read_chunk)

    def _read_chunk(self, index: int) -> PairChunk:
        (batch,) = self.chunk_shape
        return PairChunk.of(*self._paths(self._rows(index * batch, batch)))

    def _rows(self, start: int, count: int) -> pa.Table:
        group, row = divmod(start, _tables.group_rows(*self.chunk_shape))
        return self._groups(group).slice(row, count)

    def _paths(self, rows: pa.Table) -> list[list[str]]:
        """Of the queries, and of the references."""
        return [
            [_tables.picture_path(name, self.root) for name in rows[side].to_pylist()]
            for side in _tables.NEEDED
        ]

    def row(self, index: int) -> tuple[str, str | None, str, str]:
        """Id, label, query and reference of a pair."""
        rows = self._rows(index, 1)
        (query,), (reference,) = self._paths(rows)
        return rows["id"][0].as_py() or str(index), rows["label"][0].as_py(), query, reference

    def pictures(self) -> list[str]:
        """All distinct pictures."""
        distinct: dict[str, None] = {}
        step = _tables.group_rows(*self.chunk_shape)
        for start in range(0, self.rows, step):
            for paths in self._paths(self._rows(start, step)):
                distinct.update(dict.fromkeys(paths))
        return list(distinct)


class Grid:
    """Every query with every reference; made by `grid`. Chunks are tiles of the grid."""

    FILES = ("queries.parquet", "references.parquet")

    def __init__(
        self, queries: Sequence[str], references: Sequence[str], chunk_shape: tuple[int, ...]
    ) -> None:
        self.queries, self.references = queries, references
        self.shape, self.chunk_shape = (len(queries), len(references)), chunk_shape
        self.max_pictures = sum(chunk_shape)

    @classmethod
    def open(cls, folder: epath.Path, chunk_shape: tuple[int, ...]) -> "Grid":
        """The grid of a store."""
        queries, references = (_tables.read(folder / file) for file in cls.FILES)
        return cls(queries, references, chunk_shape)

    def facts(self) -> dict[str, Any]:
        """What tells these pairs from others."""
        names = "\n\n".join("\n".join(paths) for paths in (self.queries, self.references))
        Q, R = self.shape
        return {"queries": Q, "references": R, "pairs_sha256": sha256(names.encode()).hexdigest()}

    def save(self, folder: epath.Path) -> None:
        """Write their names into the store."""
        for file, paths in zip(self.FILES, (self.queries, self.references), strict=True):
            _tables.write(folder / file, paths)

    def reopen(self, folder: epath.Path) -> "Grid":
        """The same pairs: their names are in memory."""
        return self

    def chunk(self, index: int) -> PairChunk:
        """A tile by its number."""
        (q, r), (_, R) = self.chunk_shape, self.shape
        i, j = divmod(index, -(-R // r))
        queries = self.queries[i * q : (i + 1) * q]
        references = self.references[j * r : (j + 1) * r]
        return PairChunk.of(
            [a for a in queries for _ in references], [b for _ in queries for b in references]
        )

    def row(self, index: int) -> tuple[str, str | None, str, str]:
        """Id, label, query and reference of a pair."""
        i, j = divmod(index, len(self.references))
        return str(index), None, self.queries[i], self.references[j]

    def pictures(self) -> list[str]:
        """All distinct pictures."""
        return list(dict.fromkeys((*self.queries, *self.references)))


def grid(
    queries: Sequence[str | os.PathLike], references: Sequence[str | os.PathLike], batch: int
) -> Grid:
    """All pairs of two lists of pictures, in nearly square tiles of at most `batch` pairs.

    Examples:
        >>> from fam_jax import bulk
        >>> bulk.grid(["a.jpg", "b.jpg"], ["c.jpg", "d.jpg", "e.jpg"], batch=4).shape
        (2, 3)
    """
    check_count("batch", batch)
    if not (queries and references):
        raise ValueError("a grid needs at least one query and one reference")
    queries, references = _tables.as_paths(queries), _tables.as_paths(references)
    Q, R = len(queries), len(references)
    side = next(s for s in range(isqrt(batch), 0, -1) if batch % s == 0)
    q = min(side, Q)
    r = min(batch // q, R)
    return Grid(queries, references, (min(batch // r, Q), r))


Pairs = StoredPairs | Grid
