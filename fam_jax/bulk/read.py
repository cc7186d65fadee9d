"""A finished store, or one in the making, read as rows."""

from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from etils import epath

from fam_jax.bulk import tables
from fam_jax.bulk.pairs import located
from fam_jax.bulk.paths import absolute
from fam_jax.bulk.quantise import restore
from fam_jax.bulk.results import MAPS, map_columns
from fam_jax.bulk.store import VALID, Group, decode_text, read_settings, wait


class Row(NamedTuple):
    """One pair.

    Attributes:
        index: its row in the store, in C order.
        id: its name, or its number.
        label: what the table of pairs says of it.
        query: the picture's path.
        reference: that of the other.
        score: the similarity; NaN if there is none.
        status: 0 not done, 1 valid, 2 not valid.
        reason: why it is not valid.
        query_map: raw map [h, w]; None if it is not valid.
        reference_map: that of the other.
        query_box: left, top, right, bottom: what the network saw, in the picture's own pixels.
        reference_box: that of the other.
    """

    index: int
    id: str
    label: str | None
    query: str
    reference: str
    score: float
    status: int
    reason: str
    query_map: np.ndarray | None
    reference_map: np.ndarray | None
    query_box: tuple[float, float, float, float] | None
    reference_box: tuple[float, float, float, float] | None


class MapStore:
    """A store of maps; made by `open_store`.

    Attributes:
        path: where it is.
        settings: what it was made with.
        shape: leading axes of its arrays: (n,), or (queries, references).
    """

    def __init__(self, path: str, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings["asked"]
        self.shape = tuple(settings["shape"])
        maps = zip(MAPS, map(tuple, settings["map_shapes"]), strict=True)
        self._group = Group(
            path, self.shape, tuple(settings["chunk_shape"]),
            map_columns(self.settings["map_dtype"], dict(maps)),
        )  # fmt: skip

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def array(self, name: str) -> np.ndarray:
        """A whole array as it is stored, [..., *]: "scores", "status", "query_maps", ..."""
        if name not in self._group.columns:
            raise ValueError(f"no array {name!r}; there are: {', '.join(self._group.columns)}")
        return wait(self._group.read(name, ...), doing=f"read {self.path}")[0]

    def scores(self) -> np.ndarray:
        """All scores, flat, [n]; NaN where there is none."""
        return self.array("scores").reshape(-1)

    def status(self) -> np.ndarray:
        """All rows' status, flat, [n]: 0 not done, 1 valid, 2 not valid."""
        return self.array("status").reshape(-1)

    def rows(self, indices: Iterable[int] | np.ndarray) -> list[Row]:
        """Some rows, with their maps as float32.

        Raises:
            IndexError: a number outside 0 .. len - 1.
        """
        wanted = np.asarray(list(indices), int)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"rows: expected 0 to {len(self) - 1}, got {wanted.tolist()}")
        if not len(wanted):
            return []
        at = np.unravel_index(wanted, self.shape)
        names = list(self._group.columns)
        parts = wait(*(self._group.read(name, at) for name in names), doing=f"read {self.path}")
        found = dict(zip(names, parts, strict=True))
        reasons = decode_text(found["reason"])
        return [self._row(int(index), found, i, reasons[i]) for i, index in enumerate(wanted)]

    def _row(self, index: int, found: dict[str, np.ndarray], i: int, reason: str) -> Row:
        status, ranges = int(found["status"][i]), found.get("ranges")
        query_map, reference_map = (
            restore(found[name][i], None if ranges is None else ranges[i, side])
            if status == VALID else None
            for side, name in enumerate(MAPS)
        )  # fmt: skip
        query_box, reference_box = map(_box, found["boxes"][i])
        return Row(
            index,
            *self._names(index),
            float(found["scores"][i]),
            status,
            reason,
            query_map,
            reference_map,
            query_box,
            reference_box,
        )

    def _names(self, index: int) -> tuple[str, str | None, str, str]:
        if len(self.shape) == 2:
            i, j = np.unravel_index(index, self.shape)
            queries, references = self._lists
            return str(index), None, queries[i], references[j]
        group, at = divmod(index, tables.group_rows(self._group.chunk_shape[0]))
        row = self._table(group).slice(at, 1).to_pylist()[0]
        root = self.settings["pictures_root"]
        return (
            row["id"] or str(index), row["label"],
            located(row["query"], root), located(row["reference"], root),
        )  # fmt: skip

    @cached_property
    def _table(self) -> Callable[[int], pa.Table]:
        file = epath.Path(self.path) / tables.FILE
        return lru_cache(maxsize=2)(lambda group: tables.read_group(file, group))

    @cached_property
    def _lists(self) -> tuple[list[str], list[str]]:
        folder = epath.Path(self.path)
        queries, references = (
            tables.read(folder / f"{name}.parquet", "path") for name in ("queries", "references")
        )
        return queries, references


def _box(sides: np.ndarray) -> tuple[float, float, float, float] | None:
    left, top, right, bottom = map(float, sides)
    return (left, top, right, bottom) if sides.any() else None


def open_store(path: Any) -> MapStore:
    """Read a store that `run` made, or is making.

    Raises:
        FileNotFoundError: there is no store.
        ValueError: a store of something else.
    """
    path = absolute(path)
    settings = read_settings(path)
    if settings is None:
        raise FileNotFoundError(f"no store at {path}; fam-jax map makes one")
    if "map_shapes" not in settings:
        raise ValueError(f"{path} is an index, not a store of maps")
    return MapStore(path, settings)
