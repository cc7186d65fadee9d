"""What a job is about: pairs of pictures, a chunk of them at a time.

A chunk is what one device computes in one go and what one file of the store holds. It names each
of its pictures once; its pairs are two rows of that list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from etils import epath

from fam_jax._core.checks import check_count
from fam_jax.bulk import _tables


class PairChunk(NamedTuple):
    """The pairs of a chunk.

    Attributes:
        pictures: paths, each once.
        query: the row in `pictures` of each pair's query.
        reference: that of its reference.
    """

    pictures: list[str]
    query: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True, eq=False)
class TablePairs:
    """Pairs of a table; made by `table_pairs`. Rows stay in the table until their chunk's turn."""

    source: Any
    batch: int
    scan: _tables.Scan
    root: str

    FILES = frozenset(_tables.with_parts(_tables.FILE))

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,)."""
        return (self.scan.rows,)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """(batch,)."""
        return (self.batch,)

    @property
    def max_pictures(self) -> int:
        """The most pictures that a chunk has."""
        return self.scan.max_pictures

    def facts(self) -> dict[str, Any]:
        """What tells these pairs from others."""
        return {
            "pairs": self.scan.rows,
            "pairs_sha256": self.scan.sha256,
            "pictures_root": self.root,
        }

    def save(self, folder: epath.Path) -> None:
        """Write them into the store."""
        _tables.save(self.source, self.batch, folder / _tables.FILE)

    def reopen(self, folder: epath.Path) -> "StoredPairs":
        """The same pairs, read from the store."""
        return StoredPairs(folder / _tables.FILE, self.batch, self.max_pictures, self.root)


class StoredPairs:
    """Pairs in a store's own table, read a group of rows at a time.

    Attributes:
        shape: (n,).
        chunk_shape: (batch,).
        max_pictures: the most pictures that a chunk has.
    """

    def __init__(self, file: epath.Path, batch: int, max_pictures: int, root: str) -> None:
        self.shape = (_tables.count_rows(file),)
        self.chunk_shape = (batch,)
        self.max_pictures = max_pictures
        self._file, self._root = file, root
        self._group_rows = _tables.group_rows(batch)
        self._groups = lru_cache(maxsize=4)(self._read_group)
        # A chunk is asked for once per picture, from many threads.
        self._chunks = lru_cache(maxsize=64)(self._read_chunk)

    def __reduce__(self) -> tuple:
        # A cache cannot be sent to another process; the file can be opened there.
        return StoredPairs, (self._file, self.chunk_shape[0], self.max_pictures, self._root)

    def _read_group(self, group: int) -> pa.Table:
        return _tables.read_group(self._file, group, _tables.NEEDED)

    def chunk(self, index: int) -> PairChunk:
        """Some consecutive pairs."""
        return self._chunks(index)

    def _read_chunk(self, index: int) -> PairChunk:
        group, row = divmod(index * self.chunk_shape[0], self._group_rows)
        rows = self._groups(group).slice(row, self.chunk_shape[0])
        return _pair_chunk(*self._paths(rows))

    def pictures(self) -> list[str]:
        """All distinct pictures."""
        distinct: dict[str, None] = {}
        for group in range(-(-self.shape[0] // self._group_rows)):
            for paths in self._paths(self._read_group(group)):
                distinct.update(dict.fromkeys(paths))
        return list(distinct)

    def _paths(self, rows: pa.Table) -> list[list[str]]:
        """Of the queries, and of the references."""
        return [
            [_tables.picture_path(name, self._root) for name in rows[side].to_pylist()]
            for side in _tables.NEEDED
        ]


def _pair_chunk(queries: Sequence[str], references: Sequence[str]) -> PairChunk:
    rows = {path: i for i, path in enumerate(dict.fromkeys((*queries, *references)))}
    query, reference = (
        np.array([rows[path] for path in paths], np.int32) for paths in (queries, references)
    )
    return PairChunk(list(rows), query, reference)


def table_pairs(source: Any, batch: int) -> TablePairs:
    """Pairs from a table file, or from rows; see `fam_jax.bulk.run`.

    Raises:
        FileNotFoundError, ValueError: one line: what is wrong with the table, and where.
    """
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        source = epath.Path(source)
        root = str(source.parent.absolute() if "://" not in str(source) else source.parent)
    else:
        source, root = list(source), ""
    return TablePairs(source, batch, _tables.scan(source, batch), root)


@dataclass(frozen=True, eq=False)
class Grid:
    """Every query with every reference; made by `grid`. Chunks are tiles of the grid."""

    queries: Sequence[str]
    references: Sequence[str]
    chunk_shape: tuple[int, ...]

    FILES = frozenset(_tables.with_parts("queries.parquet", "references.parquet"))

    @property
    def shape(self) -> tuple[int, ...]:
        """(queries, references)."""
        return len(self.queries), len(self.references)

    @property
    def max_pictures(self) -> int:
        """The most pictures that a tile has."""
        return sum(self.chunk_shape)

    @cached_property
    def _digest(self) -> str:
        return sha256(
            "\n\n".join("\n".join(x) for x in (self.queries, self.references)).encode()
        ).hexdigest()

    def chunk(self, index: int) -> PairChunk:
        """The pairs of a tile."""
        (q, r), (Q, R) = self.chunk_shape, self.shape
        i, j = divmod(index, -(-R // r))
        queries = self.queries[i * q : min(i * q + q, Q)]
        references = self.references[j * r : min(j * r + r, R)]
        return _pair_chunk(
            [a for a in queries for _ in references], [b for _ in queries for b in references]
        )

    def reopen(self, folder: epath.Path) -> "Grid":
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
            _tables.write(folder / f"{name}.parquet", {"path": list(paths)})


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


Pairs = StoredPairs | Grid
