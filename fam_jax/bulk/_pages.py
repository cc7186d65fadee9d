"""The headers of a Parquet file's pages: what each would fill, whatever the file's end says.

Of https://github.com/apache/parquet-format, in Thrift's compact protocol:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any, NamedTuple

DICTIONARY, DELTA = 2, 7  # a kind of page; an encoding of texts by what they share with the last
_HEADER = 2**16  # bytes of a header: the least and the most of a page's values stand in it
_PAGES = 100_000  # of a column in a group of rows
_NESTED = 8  # structures in structures
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_NUMBERS = (4, 5, 6)  # of 16, 32 and 64 bits


class Page(NamedTuple):
    """What a header says: the kind of page, bytes that it fills, values, and their encoding."""

    kind: int
    fills: int
    values: int
    encoding: int


def pages(data: IO[bytes] | BytesIO, start: int, stop: int, values: int) -> Iterator[Page]:
    """The pages of a column from a place in a file, up to so many values, or to another place.

    Raises:
        ValueError: what is there is no page.
    """
    for _ in range(_PAGES):
        if values <= 0 or start >= stop:
            return
        data.seek(start)
        header = BytesIO(data.read(_HEADER))
        page, packed = _page(_struct(header))
        if page.kind != DICTIONARY:
            values -= page.values
        yield page
        start += header.tell() + packed
    raise ValueError(f"more than {_PAGES:,} pages in a column")


def _page(fields: dict[int, Any]) -> tuple[Page, int]:
    """The fields of a header by number, as a page and the bytes that it has in the file."""
    kind, fills, packed = (fields.get(i, -1) for i in (1, 2, 3))
    if not all(isinstance(x, int) and x >= 0 for x in (kind, fills, packed)):
        raise ValueError("a page has no size")
    # Of a page of data, of a dictionary, or of data in version 2, which has its encoding later.
    about = fields.get(5) or fields.get(7) or fields.get(8) or {}
    values, encoding = about.get(1, 0), about.get(4 if 8 in fields else 2, 0)
    if not (isinstance(values, int) and values >= 0 and isinstance(encoding, int)):
        raise ValueError("a page has no number of values")
    return Page(kind, fills, values, encoding), packed


def _struct(data: BytesIO, depth: int = 0) -> dict[int, Any]:
    fields, number = {}, 0
    if depth > _NESTED:
        raise ValueError("a page's header is of structures in structures, too many")
    while first := _byte(data):
        number = number + (first >> 4) if first >> 4 else _signed(data)
        fields[number] = _value(data, first & 15, depth)
    return fields


def _value(data: BytesIO, kind: int, depth: int) -> Any:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE
    if kind in _NUMBERS:
        return _signed(data)
    if kind == _STRUCT:
        return _struct(data, depth + 1)
    if kind in (_BYTE, _DOUBLE, _BINARY):
        data.seek({_BYTE: 1, _DOUBLE: 8}.get(kind) or _number(data), 1)
        return None
    raise ValueError(f"a page's header holds a value of kind {kind}")


def _signed(data: BytesIO) -> int:
    number = _number(data)
    return (number >> 1) ^ -(number & 1)


def _number(data: BytesIO) -> int:
    """Seven bits a byte, the lowest first."""
    number = 0
    for i in range(10):
        byte = _byte(data)
        number |= (byte & 127) << 7 * i
        if byte < 128:
            return number
    raise ValueError("a page's header holds a number without an end")


def _byte(data: BytesIO) -> int:
    if not (byte := data.read(1)):
        raise ValueError("a page's header is cut")
    return byte[0]
