"""A store of maps: its arrays, how maps are stored in them, and its rows.

Maps are stored in float32 as they are; in float16 and uint8 between their own low and high:

    stored = (M - low) / (high - low),   M ~ low + (high - low) stored

In uint8 the unit is 255. The error is at most (high - low) / 510, or 2^-12 of it for float16.
"""

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import Array

from fam_jax._core.axes import map_axes, spread
from fam_jax._core.brief import legible
from fam_jax.bulk import _tables
from fam_jax.bulk._attributes import check_settings, read_settings
from fam_jax.bulk._pairs import Grid, Pairs, StoredPairs
from fam_jax.bulk._zarr import STATUS_COLUMNS, Column, Group, StoreError, absolute, decode_text
from fam_jax.store import INVALID, NOT_DONE, VALID, Row

DTYPES = ("float16", "uint8", "float32")
MAPS = ("query_maps", "reference_maps")
_UNIT = {"float16": 1.0, "uint8": 255.0}


def quantise(maps: Array, dtype: str) -> tuple[Array, Array]:
    """Maps [b, *space] as stored, and their ranges [b, 2]."""
    axes = map_axes(maps)
    low, high = jnp.min(maps, axis=axes), jnp.max(maps, axis=axes)
    ranges = jnp.stack([low, high], axis=1)
    if dtype == "float32":
        return maps.astype(jnp.float32), ranges
    span = spread(high - low, axes)
    unit = (maps - spread(low, axes)) / jnp.where(span == 0, 1, span)
    if dtype == "uint8":
        return jnp.round(unit * _UNIT[dtype]).astype(jnp.uint8), ranges
    return _as_float16(unit), ranges


def _as_float16(unit: Array) -> Array:
    """Numbers from 0 to 1 in float16, to the nearest and then to the even one.

    By their bits: XLA has no conversion on x86 processors without F16C.
    """
    bits = jax.lax.bitcast_convert_type(unit.astype(jnp.float32), jnp.uint32)
    normal = ((bits + 0xFFF + ((bits >> 13) & 1)) >> 13) - (112 << 10)  # exponents from -14
    small = jnp.round(unit * 2**24).astype(jnp.uint32)
    half = jnp.where(unit < 2**-14, small, normal).astype(jnp.uint16)
    return jax.lax.bitcast_convert_type(half, jnp.float16)


def restore(stored: np.ndarray, ranges: np.ndarray | None) -> np.ndarray:
    """Float32 maps from stored ones, [*rows, *space], and their ranges [*rows, 2]."""
    if ranges is None:
        return np.asarray(stored, np.float32)
    axes = tuple(range(ranges.ndim - 1, stored.ndim))
    low, high = (np.expand_dims(ranges[..., i], axes).astype(np.float32) for i in (0, 1))
    unit = stored.astype(np.float32) / np.float32(_UNIT[stored.dtype.name])
    return low + (high - low) * unit


def map_columns(dtype: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Column]:
    """The arrays of a store of maps, in `dtype` and of the given shapes."""
    columns = {name: Column(dtype, shape) for name, shape in shapes.items()}
    if dtype != "float32":
        columns["ranges"] = Column("float32", (2, 2))
    return columns | {
        "boxes": Column("float32", (2, 4)),
        "scores": Column("float32", (), "NaN"),
        **STATUS_COLUMNS,
    }


class MapStore:
    """A store of maps, finished or in the making; made by `open_store`.

    Attributes:
        path: where it is.
        settings: what it was made with.
        shape: leading axes of its arrays: (n,), or (queries, references).
    """

    def __init__(self, path: str, settings: dict[str, Any]) -> None:
        check_settings(path, settings, ("map_dtype",), ("shape", "chunk_shape"))
        self.path, self.settings = path, settings["asked"]
        self.shape, chunk_shape = tuple(settings["shape"]), tuple(settings["chunk_shape"])
        _check_rows(path, self.shape)
        shapes = zip(MAPS, map(tuple, settings["map_shapes"]), strict=True)
        columns = map_columns(self.settings["map_dtype"], dict(shapes))
        self._group = Group(path, self.shape, chunk_shape, columns)

    @cached_property
    def _pairs(self) -> Pairs:
        folder, chunk_shape = epath.Path(self.path), self._group.chunk_shape
        if len(self.shape) == 2:
            return Grid.open(folder, chunk_shape)
        check_settings(self.path, {"asked": self.settings}, ("pictures_root",))
        return StoredPairs(folder, len(self), chunk_shape, self.settings["pictures_root"])

    def __len__(self) -> int:
        return prod(self.shape)

    def array(self, name: str) -> np.ndarray:
        """A whole array as it is stored, [..., *]: "scores", "status", "query_maps", ..."""
        if name not in self._group.columns:
            raise ValueError(f"no array {name!r}; there are: {', '.join(self._group.columns)}")
        return self._group.read_status() if name == "status" else self._group.read(name)

    def scores(self) -> np.ndarray:
        """All scores, flat, [n]; NaN where there is none."""
        return self.array("scores").reshape(-1)

    def status(self) -> np.ndarray:
        """All rows' status, flat, [n]: 0 not done, 1 valid, 2 not valid."""
        return self.array("status").reshape(-1)

    def rows(self, indices: Iterable[int] | np.ndarray) -> list[Row]:
        """Some rows, with their maps as float32; IndexError for a number that is none of a row."""
        wanted = np.asarray(list(indices), int)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"rows: expected 0 to {len(self) - 1}, got {wanted.tolist()}")
        if not len(wanted):
            return []
        where = np.unravel_index(wanted, self.shape)
        try:
            arrays = self._group.read_arrays(self._group.columns, where)
        except StoreError:
            damaged = self._group.damaged(where)
            if not damaged:
                raise
            rest = iter(self.rows([i for i in wanted.tolist() if i not in damaged]))
            return [
                self._damaged_row(i, damaged[i]) if i in damaged else next(rest)
                for i in wanted.tolist()
            ]
        arrays["reason"] = np.array(decode_text(arrays["reason"]))
        arrays["status"] = np.where(self._written(wanted), arrays["status"], NOT_DONE)
        return [
            self._row(int(index), {name: x[i] for name, x in arrays.items()})
            for i, index in enumerate(wanted)
        ]

    def _written(self, rows: np.ndarray) -> np.ndarray:
        """Whether rows lie in chunks that have all their files."""
        tiles = zip(np.unravel_index(rows, self.shape), self._group.chunk_shape, strict=True)
        chunks = np.ravel_multi_index([at // size for at, size in tiles], self._group.grid)
        return self._group.written()[chunks]

    def _damaged_row(self, index: int, names: list[str]) -> Row:
        reason = f"the store is damaged: {', '.join(names)} of row {index}; the command that wrote "
        reason += "it computes it again"
        return Row(index, *self._pairs.row(index), float("nan"), INVALID, reason)

    def _row(self, index: int, values: dict[str, np.ndarray]) -> Row:
        query_map = reference_map = None
        if values["status"] == VALID:
            ranges = values.get("ranges", (None, None))
            query_map, reference_map = (
                restore(values[m], r) for m, r in zip(MAPS, ranges, strict=True)
            )
        done = float(values["scores"]), int(values["status"]), str(values["reason"])
        boxes = map(_box, values["boxes"])
        return Row(index, *self._pairs.row(index), *done, query_map, reference_map, *boxes)


def _check_rows(path: str, shape: tuple[int, ...]) -> None:
    """StoreError for a store that says it has other rows than its tables."""
    names = Grid.FILES if len(shape) == 2 else (_tables.FILE,)
    there = tuple(_tables.count(epath.Path(path) / name) for name in names)
    if there != shape:
        raise StoreError(
            f"{legible(path)} is damaged: its zarr.json says {' x '.join(map(str, shape))} rows, "
            f"its tables {' x '.join(map(str, there))}"
        )


def _box(sides: np.ndarray) -> tuple[float, float, float, float] | None:
    left, top, right, bottom = map(float, sides)
    return (left, top, right, bottom) if sides.any() else None


def open_store(path: str | os.PathLike) -> MapStore:
    """Read a store that `run` made, or is making; FileNotFoundError if there is none."""
    path = absolute(path)
    settings = read_settings(path)
    if settings is None:
        raise FileNotFoundError(f"no store at {legible(path)}; fam-jax map makes one")
    if "map_shapes" not in settings:
        raise ValueError(f"{legible(path)} is an index, not a store of maps")
    return MapStore(path, settings)
