"""Tables of pairs: CSV, JSON lines or Parquet in, Parquet out, in bounded memory."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
from etils import epath
from pyarrow import parquet

from fam_jax._core.brief import legible, message
from fam_jax.io import files

FILE = "pairs.parquet"
NEEDED = ("query", "reference")
COLUMNS = (*NEEDED, "id", "label")
_GROUP = 8192  # rows that are in memory at a time, about


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
    with file.open("rb") as data:
        return parquet.read_table(data)["path"].to_pylist()


def read_group(file: epath.Path, group: int) -> pa.Table:
    """One group of the rows of a table of pairs in a store."""
    with file.open("rb") as data:
        return parquet.ParquetFile(data).read_row_group(group)


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
    if not source.exists():
        raise FileNotFoundError(f"no such file: {legible(source)}")
    return _READERS[suffix](source)


def _as_dicts(rows: Iterable) -> Iterator[dict[str, Any]]:
    for row in rows:
        if isinstance(row, dict):
            yield {k: None if v is None else str(v) for k, v in row.items() if k in COLUMNS}
        elif isinstance(row, tuple | list) and len(row) == 2:
            yield dict(zip(NEEDED, map(str, row), strict=True))
        else:
            raise ValueError(f"pairs: expected (query, reference) or a dict, got {row!r}")


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


def _csv(source: epath.Path) -> Iterator[dict[str, Any]]:
    try:
        with _text(source) as file:
            reader = csv.DictReader(file)
            _check_columns(source, reader.fieldnames or [])
            for row in reader:
                yield {name: row[name] for name in COLUMNS if name in row}
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{legible(source)} is no CSV file: {message(error)}") from None


def _fields(source: epath.Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        _check_columns(source, [*NEEDED, *names] if set(NEEDED).isdisjoint(names) else names)
    return dict(pairs)


def _json_lines(source: epath.Path) -> Iterator[dict[str, Any]]:
    with _text(source) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=partial(_fields, source))
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"{legible(source)}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(
                    f"{legible(source)}, line {number}: expected an object with query, reference"
                )
            if number == 1:
                _check_columns(source, list(row))
            yield from _as_dicts([row])


def _parquet(source: epath.Path) -> Iterator[dict[str, Any]]:
    with source.open("rb") as data:
        try:
            file = parquet.ParquetFile(data)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{legible(source)} is no Parquet file: {message(error)}") from None
        _check_columns(source, file.schema_arrow.names)
        columns = [name for name in COLUMNS if name in file.schema_arrow.names]
        for batch in file.iter_batches(_GROUP, columns=columns):
            yield from _as_dicts(batch.to_pylist())


_READERS = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
