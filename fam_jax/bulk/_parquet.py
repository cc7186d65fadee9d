"""Parquet files, checked for what they would fill before their rows are read.

A few hundred bytes may stand for gigabytes: of a dictionary of one long text, or of equal rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
from etils import epath
from pyarrow import compute, parquet

from fam_jax._core.brief import legible, message

pc: Any = compute  # its functions are made as it is imported
CELL = 4096  # bytes of a text: as long as a path may be
_GROWTH, _LITTLE = 1000, 2**26  # times its bytes that a column may fill, and what any may
_ROWS, _FEW = 64, 1_000_000  # rows for a byte of the file, and what any may have
_AT_ONCE = 256  # rows that are read before their texts are looked at


@contextmanager
def opened(path: epath.Path, columns: Sequence[str]) -> Iterator[parquet.ParquetFile]:
    """A file of which these columns, so far as it has them, may be read; texts once each.

    Raises:
        ValueError: It is no Parquet file, or damaged, or would fill too much.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise type(error)(f"cannot read {legible(path)}: {error.strerror or error}") from None
    with raw as data:
        try:
            file = parquet.ParquetFile(data)
            texts = _check(file, columns, _size(data), path)
            yield parquet.ParquetFile(data, metadata=file.metadata, read_dictionary=texts)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise ValueError(
                f"{legible(path)} is no Parquet file, or damaged: {message(error)}"
            ) from None


def read_rows(path: epath.Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows, as dicts of these columns."""
    with opened(path, columns) as file:
        start = 0
        for batch in file.iter_batches(_AT_ONCE, columns=list(columns)):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                _check_texts(name, column, start, path)
            yield from batch.to_pylist()
            start += len(batch)


def names_of(path: epath.Path) -> list[str]:
    """Of the columns."""
    with opened(path, ()) as file:
        return file.schema_arrow.names


def _size(data: IO[bytes]) -> int:
    place, size = data.tell(), data.seek(0, 2)
    data.seek(place)
    return size


def _check(
    file: parquet.ParquetFile, columns: Sequence[str], size: int, path: epath.Path
) -> list[str]:
    """Those of the columns that hold texts; ValueError for what is not to be read."""
    about, name = file.metadata, legible(path)
    if about.num_rows > _ROWS * size + _FEW:
        raise ValueError(f"{name} has {about.num_rows:,} rows in {size:,} bytes: too many")
    for field in file.schema_arrow:
        if field.name in columns and _is_deep(field.type):
            raise ValueError(f"{name}: the column {field.name} holds {field.type}, not texts")
    for group in range(about.num_row_groups):
        for number in range(about.num_columns):
            part = about.row_group(group).column(number)
            if part.path_in_schema not in columns:
                continue
            fills = part.total_uncompressed_size
            most = min(_GROWTH * size + _LITTLE, part.num_values * (CELL + 16) + 2**20)
            if fills > most:
                raise ValueError(
                    f"{name}: the column {part.path_in_schema} would fill {fills:,} bytes from "
                    f"{size:,}, with {part.num_values:,} cells of at most {CELL:,}"
                )
    kinds = {field.name: field.type for field in file.schema_arrow}
    return [c for c in columns if c in kinds and _is_text(kinds[c])]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_deep(kind: pa.DataType) -> bool:
    """Whether its cells are no plain values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    plain = (pa.types.is_primitive(kind), pa.types.is_null(kind), pa.types.is_decimal(kind))
    return not (_is_text(kind) or any(plain))


def _check_texts(name: str, column: Any, start: int, path: epath.Path) -> None:
    """Raise ValueError for a text that is too long, with its row."""
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return
    lengths = pc.fill_null(pc.take(pc.binary_length(column.dictionary), column.indices), 0)
    long = pc.greater(lengths, CELL)
    if pc.any(long).as_py():
        row = pc.index(long, True).as_py()
        raise ValueError(too_long(path, name, start + row + 1, lengths[row].as_py()))


def too_long(source: object, column: str, row: int, length: int) -> str:
    """What is said of a text that no path is as long as."""
    return (
        f"{legible(source)}: {column} of row {row} has {length:,} letters; at most {CELL:,} are "
        "read"
    )
