"""Tables of pairs: CSV, JSON lines or Parquet in, Parquet out, in bounded memory."""

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from etils import epath
from pyarrow import parquet

from fam_jax._core.brief import address, legible, message
from fam_jax.bulk._parquet import CELL, names_of, opened, read_rows, too_long
from fam_jax.io import files

FILE = "pairs.parquet"
NEEDED = ("query", "reference")
COLUMNS = (*NEEDED, "id", "label")
_GROUP = 8192  # rows that are in memory at a time, about
_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are no UTF-8
_LINE = 2**22  # bytes of a line


class Scan(NamedTuple):
    """What a table holds: so many rows, and at most so many pictures in a chunk of them."""

    rows: int
    max_pictures: int
    sha256: str


def group_rows(batch: int) -> int:
    """Rows of a group in the store's table: whole chunks of `batch` pairs."""
    return batch * max(1, _GROUP // batch)


def scan(source: epath.Path | Sequence, batch: int) -> Scan:
    """Check a table of pairs, row by row: a file, or (query, reference), or dicts of the columns.

    Raises:
        FileNotFoundError, ValueError: one line: what is wrong, and in which row.
    """
    table = source if isinstance(source, epath.Path) else "pairs"
    rows = max_pictures = 0
    digest = hashlib.sha256()
    for group in _groups(source, batch):
        for i, row in enumerate(group):
            if empty := [name for name in NEEDED if not row.get(name)]:
                raise ValueError(f"{legible(table)}: no {empty[0]} in row {rows + i + 1}")
            digest.update(("\x1f".join(row.get(name) or "" for name in COLUMNS) + "\n").encode())
        for i in range(0, len(group), batch):
            pictures = {row[name] for row in group[i : i + batch] for name in NEEDED}
            max_pictures = max(max_pictures, len(pictures))
        rows += len(group)
    if not rows:
        raise ValueError(f"{legible(table)}: no pairs")
    return Scan(rows, max_pictures, digest.hexdigest())


def save(source: epath.Path | Sequence, batch: int, target: epath.Path) -> None:
    """Write a table of pairs as a Parquet file, whole or not at all."""
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    with (
        files.whole(target) as part,
        part.open("wb") as file,
        parquet.ParquetWriter(file, schema) as writer,
    ):
        for group in _groups(source, batch):
            writer.write_table(pa.Table.from_pylist(group, schema), row_group_size=len(group))


def write(target: epath.Path, paths: Sequence[str]) -> None:
    """Write paths as a Parquet file, whole or not at all."""
    with files.whole(target) as part, part.open("wb") as file:
        parquet.write_table(pa.table({"path": list(paths)}), file)


def read(file: epath.Path) -> list[str]:
    """The paths of a table in a store."""
    rows = list(read_rows(file, ["path"]))
    if rows and not isinstance(rows[0].get("path"), str):
        raise ValueError(f"{legible(file)} is damaged: no column path")
    return [row["path"] for row in rows]


def count(file: epath.Path) -> int:
    """Rows of a table in a store."""
    with opened(file, ()) as table:
        return table.file.metadata.num_rows


def read_group(file: epath.Path, group: int) -> pa.Table:
    """One group of the rows of a table of pairs in a store."""
    with opened(file, COLUMNS) as table:
        names = table.file.schema_arrow.names
        if group >= table.file.num_row_groups or names != list(COLUMNS):
            raise ValueError(f"{legible(file)} is damaged: it has other rows than its store")
        return pa.Table.from_batches(table.batches([group]))


def picture_path(name: str, root: str) -> str:
    """Where a picture is: names are relative to the table's folder, unless they are whole."""
    return name if "://" in name or not root else str(epath.Path(root) / name)


def _groups(source: epath.Path | Sequence, batch: int) -> Iterator[list[dict[str, Any]]]:
    rows = _rows(source)
    while group := list(islice(rows, group_rows(batch))):
        yield group


def _rows(source: epath.Path | Sequence) -> Iterator[dict[str, Any]]:
    """The rows of a table as dicts of texts."""
    if not isinstance(source, epath.Path):
        return _as_dicts(source)
    suffix = source.suffix.lower()
    if suffix not in _READERS:
        raise ValueError(
            f"{legible(source)}: pairs are read from .csv, .jsonl or .parquet, not {suffix!r}"
        )
    check_file(source)
    return _READERS[suffix](source)


def as_paths(given: Iterable[str | os.PathLike]) -> list[str]:
    """Paths as a table holds them; ValueError for one that no table does."""
    paths = [str(os.fspath(path)) for path in given]
    for row, path in enumerate(paths, start=1):
        _cell(path, "pictures", "the path", row)
    return paths


def check_file(source: Any) -> None:
    """Raise OSError or ValueError for what is no file that has an end."""
    if not source.exists():
        raise FileNotFoundError(f"no such file: {legible(source)}")
    if source.is_dir():
        raise IsADirectoryError(f"{legible(source)} is a folder; a file is expected")
    if not address(source) and not Path(source).is_file():
        raise ValueError(f"{legible(source)} is a pipe or a device; a file is expected")


def _as_dicts(rows: Iterable, source: Any = "pairs") -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        if isinstance(row, tuple | list) and len(row) == 2:
            cells: dict[str, Any] = dict(zip(NEEDED, row, strict=True))
        elif isinstance(row, dict):
            cells = row
        else:
            raise ValueError(f"pairs: expected (query, reference) or a dict, got {row!r}")
        yield {name: _cell(cells[name], source, name, number) for name in COLUMNS if name in cells}


def _cell(value: Any, source: Any, name: str, row: int) -> str | None:
    """A value as a text; ValueError for what is none."""
    if isinstance(value, dict | list | tuple | bytes):
        raise ValueError(f"{legible(source)}: {name} of row {row} is no text")
    text = None if value is None else str(value)
    if text and len(text) > CELL:
        raise ValueError(too_long(source, name, row, len(text)))
    if text and _SURROGATE.search(text):
        raise ValueError(f"{legible(source)}: {name} of row {row} is not UTF-8: {legible(text)}")
    return text


def _check_columns(source: epath.Path, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if list(names).count(name) > 1 and name in COLUMNS}):
        raise ValueError(f"{legible(source)}: several columns are called {', '.join(twice)}")
    if missing := [name for name in NEEDED if name not in names]:
        raise ValueError(
            f"{legible(source)}: no column {' and no column '.join(missing)}; "
            f"there are: {', '.join(map(legible, names))}"
        )


def _text(source: epath.Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(source.open("rb"), encoding="utf-8-sig", newline="")


def _lines(file: io.TextIOWrapper, source: epath.Path) -> Iterator[str]:
    for number, line in enumerate(iter(partial(file.readline, _LINE + 1), ""), start=1):
        if len(line) > _LINE:
            raise ValueError(f"{legible(source)}, line {number}: more than {_LINE:,} letters")
        yield line


def _csv(source: epath.Path) -> Iterator[dict[str, Any]]:
    try:
        with _text(source) as file:
            reader = csv.DictReader(_lines(file, source))
            _check_columns(source, reader.fieldnames or [])
            yield from _as_dicts(reader, source)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{legible(source)} is no CSV file: {message(error)}") from None


def _fields(source: epath.Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        _check_columns(source, [*NEEDED, *names] if set(NEEDED).isdisjoint(names) else names)
    return dict(pairs)


def _json_lines(source: epath.Path) -> Iterator[dict[str, Any]]:
    return _as_dicts(_json_objects(source), source)


def _json_objects(source: epath.Path) -> Iterator[dict[str, Any]]:
    with source.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, _LINE + 1), b""), start=1):
            where = f"{legible(source)}, line {number}"
            if len(line) > _LINE:
                raise ValueError(f"{where}: more than {_LINE:,} bytes")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if not text.strip():
                    continue
                row = json.loads(text, object_pairs_hook=partial(_fields, source))
            except RecursionError:
                raise ValueError(f"{where}: lists in lists, too many") from None
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                raise ValueError(f"{where}: not JSON: {message(error)}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{where}: expected an object with query, reference")
            if number == 1:
                _check_columns(source, list(row))
            yield row


def _parquet(source: epath.Path) -> Iterator[dict[str, Any]]:
    names = names_of(source)
    _check_columns(source, names)
    yield from _as_dicts(read_rows(source, [n for n in COLUMNS if n in names]), source)


_READERS = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
