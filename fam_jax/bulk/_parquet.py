"""Parquet files, checked for what they would fill before their rows are read.

A few hundred bytes may stand for gigabytes: of a dictionary of one long text, or of equal rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import pyarrow as pa
from etils import epath
from pyarrow import compute, parquet

from fam_jax._core.brief import legible, message
from fam_jax.bulk._pages import DELTA, DICTIONARY, Page, pages

pc: Any = compute  # its functions are made as it is imported
CELL = 4096  # bytes of a text: as long as a path may be
_GROWTH, _LITTLE = 1000, 2**26  # times its bytes that a column may fill, and what any may
_ROWS, _FEW = 64, 1_000_000  # rows for a byte of the file, and what any may have
_PAGE = 2**27  # bytes of a page
_AT_ONCE = 256  # rows that are read before their texts are looked at
# Of texts by what they share with the one before: each may be as long as a page.
_DELTA_PAGE, _DELTA_AT_ONCE = 2**21, 16


class Table(NamedTuple):
    """An open file, columns of it that may be read, and how many rows at a time."""

    path: epath.Path
    file: parquet.ParquetFile
    columns: list[str]
    at_once: int

    def batches(self, groups: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, or those of some groups; ValueError for a text that is too long."""
        start = 0
        for batch in self.file.iter_batches(self.at_once, groups, self.columns):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                _check_texts(name, column, start, self.path)
            yield batch
            start += len(batch)


@contextmanager
def opened(path: epath.Path, columns: Sequence[str]) -> Iterator[Table]:
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
            texts, rows = _check(file, data, columns, path)
            file = parquet.ParquetFile(data, metadata=file.metadata, read_dictionary=texts)
            yield Table(path, file, list(columns), rows)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise ValueError(
                f"{legible(path)} is no Parquet file, or damaged: {message(error)}"
            ) from None


def read_rows(path: epath.Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows, as dicts of these columns."""
    with opened(path, columns) as table:
        for batch in table.batches():
            yield from batch.to_pylist()


def names_of(path: epath.Path) -> list[str]:
    """Of the columns."""
    with opened(path, ()) as table:
        return table.file.schema_arrow.names


def _size(data: IO[bytes]) -> int:
    place, size = data.tell(), data.seek(0, 2)
    data.seek(place)
    return size


def _check(
    file: parquet.ParquetFile, data: IO[bytes], columns: Sequence[str], path: epath.Path
) -> tuple[list[str], int]:
    """The columns of texts to be read once each, and how many rows may be read at a time.

    ValueError for what is not to be read.
    """
    about, name, size, rows = file.metadata, legible(path), _size(data), _AT_ONCE
    if about.num_rows > _ROWS * size + _FEW:
        raise ValueError(f"{name} has {about.num_rows:,} rows in {size:,} bytes: too many")
    for field in file.schema_arrow:
        if field.name in columns and _is_deep(field.type):
            raise ValueError(f"{name}: the column {field.name} holds {field.type}, not texts")
    for group in range(about.num_row_groups):
        for number in range(about.num_columns):
            part = about.row_group(group).column(number)
            if part.path_in_schema in columns and _has_deltas(part, data, size, name):
                rows = _DELTA_AT_ONCE
    kinds = {field.name: field.type for field in file.schema_arrow}
    # Of texts by what they share with the one before Arrow makes no dictionary.
    texts = [c for c in columns if c in kinds and _is_text(kinds[c]) and rows == _AT_ONCE]
    return texts, rows


def _has_deltas(part: Any, data: IO[bytes], size: int, name: str) -> bool:
    """Whether texts of a column in a group of rows stand for more than their page fills.

    ValueError for what the file's end, or the header of a page, says that it would fill.
    """
    start = part.data_page_offset
    if part.has_dictionary_page and 0 < part.dictionary_page_offset < start:
        start = part.dictionary_page_offset
    most = min(_GROWTH * size + _LITTLE, part.num_values * (CELL + 16) + 2**20)
    of_pages, deltas = 0, False
    try:
        for page in pages(data, start, size, part.num_values):
            _check_page(page)
            of_pages, deltas = of_pages + page.fills, deltas or page.encoding == DELTA
            if of_pages > most:
                break
    except ValueError as error:
        raise ValueError(f"{name}: the column {part.path_in_schema} is damaged: {error}") from None
    if (fills := max(part.total_uncompressed_size, of_pages)) > most:
        raise ValueError(
            f"{name}: the column {part.path_in_schema} would fill {fills:,} bytes from "
            f"{size:,}, with {part.num_values:,} cells of at most {CELL:,}"
        )
    return deltas


def _check_page(page: Page) -> None:
    """Raise ValueError for a page that is too large, or a dictionary that is not in its page."""
    most = _DELTA_PAGE if page.encoding == DELTA else _PAGE
    if page.fills > most:
        raise ValueError(f"a page would fill {page.fills:,} bytes; at most {most:,} are read")
    if page.kind == DICTIONARY and page.values > page.fills:
        raise ValueError(f"a dictionary of {page.values:,} values in {page.fills:,} bytes")


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
    kind = column.type
    if pa.types.is_dictionary(kind) and _is_text(kind.value_type):
        lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
    elif _is_text(kind):
        lengths = pc.binary_length(column)
    else:
        return
    lengths = pc.fill_null(lengths, 0)
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
