"""Parquet files of a few bytes that stand for gigabytes, whatever they say of themselves."""

import io
import json
import re
import subprocess
import sys
import tracemalloc
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from etils import epath
from pyarrow import parquet

from fam_jax.bulk import _pages, _parquet
from fam_jax.bulk._pairs import TablePairs


def equal(text, count):
    """One text in so many rows."""
    return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [text])


LONG = "x" * 1_000_000
BOMBS = {
    "a dictionary of one text": ({"query": equal(LONG, 8192), "reference": equal(LONG, 8192)}, {}),
    "a text in its place": (
        {"query": ["a.png"] * 9 + [100 * LONG], "reference": ["b.png"] * 10},
        {"use_dictionary": False},
    ),
    "many texts": (
        {"query": [str(i) + LONG for i in range(90)], "reference": ["b.png"] * 90},
        {"use_dictionary": False},
    ),
    "an id": ({"query": ["a"], "reference": ["b"], "id": [LONG]}, {}),
    "lists": ({"query": [["a.png"] * 1000], "reference": ["b.png"]}, {}),
    "maps": ({"query": [{"a": 1}], "reference": ["b.png"]}, {}),
    "bytes": ({"query": [b"a.png"], "reference": ["b.png"]}, {}),
    "equal rows": ({"query": equal("a", 3_000_000), "reference": equal("b", 3_000_000)}, {}),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_small_table_does_not_fill_the_memory(tmp_path, case):
    """Refused in one line, before its texts are copied."""
    columns, options = BOMBS[case]
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.table(columns), file, compression="zstd", **options)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.parquet(:| has) ") as caught:
            TablePairs(file, batch=4)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 2**27
    assert len(str(caught.value)) < len(str(file)) + 200


def number(value, length=1):
    """A number in Thrift's compact form, in at least so many bytes."""
    out = []
    while value or len(out) < length:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out[:-1], out[-1] & 127])


def field(step, value):
    """A whole number, in a field so many after the last one."""
    return bytes([step << 4 | 5]) + number(2 * value if value >= 0 else -2 * value - 1)


def header(length, kind, fills, packed, values, encoding=0):
    """A header of a page of data or of a dictionary, in so many bytes."""
    out = field(1, kind) + field(1, fills) + field(1, packed)
    about = field(1, values) + field(1, encoding)
    if kind != 2:
        about += field(1, 3) + field(1, 3)  # how levels are encoded
    out += bytes([(4 if kind == 2 else 2) << 4 | 12]) + about + b"\0"
    rest = length - len(out) - 1  # filled by a field that nobody knows: true, or bytes
    if rest > 1:
        size = 1 if rest < 130 else 2
        out += bytes([8 << 4 | 8]) + number(rest - 1 - size, size) + bytes(rest - 1 - size)
    return out + bytes([8 << 4 | 1]) * (rest == 1) + b"\0"


def lying(folder, which, **lies):
    """A table of which the header of the first dictionary, or of the first page, says other."""
    file = folder / "a.parquet"
    columns = {"query": ["a" * 100, "b" * 100], "reference": ["c", "d"]}
    parquet.write_table(pa.table(columns), file, compression="zstd", write_page_checksum=True)
    part = parquet.read_metadata(file).row_group(0).column(0)
    start = part.dictionary_page_offset if which == "dictionary" else part.data_page_offset
    whole = file.read_bytes()
    reader = io.BytesIO(whole[start:])
    found = _pages._struct(reader)
    kind, about = (2, found[7]) if which == "dictionary" else (0, found[5])
    said = {"fills": found[2], "packed": found[3], "values": about[1], "encoding": about[2]} | lies
    new = header(reader.tell(), kind, **said)
    assert len(new) == reader.tell()
    file.write_bytes(whole[:start] + new + whole[start + len(new) :])
    return file


def understated(folder):
    """A column of 100 MB that the file's end says fills 99 bytes."""
    file = folder / "a.parquet"
    columns = {"query": ["a" * 10**8], "reference": ["b"]}
    parquet.write_table(pa.table(columns), file, compression="zstd", use_dictionary=False)
    whole = file.read_bytes()
    fills = parquet.read_metadata(file).row_group(0).column(0).total_uncompressed_size
    said = number(2 * fills)
    place = whole.rindex(said)
    file.write_bytes(whole[:place] + number(198, len(said)) + whole[place + len(said) :])
    assert parquet.read_metadata(file).row_group(0).column(0).total_uncompressed_size == 99
    return file


def deltas(folder):
    """Texts of a million letters, each but its last few as the one before."""
    file = folder / "a.parquet"
    texts = [LONG + str(i) for i in range(100)]
    encodings = dict.fromkeys(("query", "reference"), "DELTA_BYTE_ARRAY")
    parquet.write_table(
        pa.table({"query": texts, "reference": texts}),
        file,
        use_dictionary=False,
        column_encoding=encodings,
    )
    return file


MOST = 2**31 - 1
LIARS = {
    "a dictionary of 2e9 values": (
        partial(lying, which="dictionary", values=MOST),
        "the column query is damaged: a dictionary of 2,147,483,647 values in 208 bytes",
    ),
    "a dictionary of 2 GB": (
        partial(lying, which="dictionary", fills=MOST),
        "a page would fill 2,147,483,647 bytes; at most 134,217,728 are read",
    ),
    "a page of 2 GB": (partial(lying, which="page", fills=MOST), "a page would fill 2,147"),
    "a page of no size": (partial(lying, which="page", packed=-1), "is damaged: a page has no"),
    "one that says it is small": (understated, r"would fill 100,0\d\d,\d\d\d bytes from"),
    "texts by what they share": (deltas, "query of row 1 has 1,000,001 letters"),
}
READ = """
import json, sys
import pyarrow as pa
from etils import epath
from fam_jax.bulk import _tables
out = {}
for name, file in json.loads(sys.argv[1]).items():
    try:
        _tables.scan(epath.Path(file), 4)
        out[name] = "read"
    except ValueError as error:
        out[name] = str(error)
print(json.dumps([out, pa.default_memory_pool().max_memory()]))
"""


def test_tables_that_lie_of_their_size_are_refused_before_they_are_read(tmp_path):
    """At the file's end or in the headers of pages; in a process of its own, to see its memory."""
    files = {}
    for name, (make, _) in LIARS.items():
        (folder := tmp_path / name.replace(" ", "-")).mkdir()
        files[name] = str(make(folder))
    child = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(files)], capture_output=True, text=True, check=True
    )
    said, most = json.loads(child.stdout)
    for name, (_, message) in LIARS.items():
        assert re.search(message, said[name]), (name, said[name])
        assert said[name].startswith(files[name]), said[name]
        assert "\n" not in said[name]
    assert most < 2**27


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "RLE_DICTIONARY"])
def test_pages_of_every_kind_are_known(tmp_path, version, encoding):
    """Their values are those of the column, and their bytes what the writer says they are."""
    texts = [f"folder/{i % 700}.png" if i % 11 else None for i in range(5000)]
    file = tmp_path / "a.parquet"
    options = {"use_dictionary": True}
    if encoding != "RLE_DICTIONARY":
        options = {"use_dictionary": False, "column_encoding": {"query": encoding}}
    parquet.write_table(
        pa.table({"query": texts}), file, data_page_version=version, data_page_size=4096, **options
    )
    part = parquet.read_metadata(file).row_group(0).column(0)
    start = part.dictionary_page_offset if part.has_dictionary_page else part.data_page_offset
    with file.open("rb") as data:
        found = list(_pages.pages(data, start, file.stat().st_size, part.num_values))
    assert sum(page.values for page in found if page.kind != _pages.DICTIONARY) == 5000
    headers = part.total_uncompressed_size - sum(page.fills for page in found)
    assert 10 * len(found) < headers < 100 * len(found)
    assert any(page.encoding == _pages.DELTA for page in found) == (encoding == "DELTA_BYTE_ARRAY")
    with _parquet.opened(epath.Path(file), ["query"]) as table:
        read = [text for batch in table.batches() for text in batch["query"].to_pylist()]
    assert read == texts


@pytest.mark.parametrize("data", [b"", b"\x15", b"\xff" * 40, b"\x1c" * 40, b"\x15\x00\x00"])
def test_what_is_no_page(data):
    with pytest.raises(ValueError, match="a page"):
        list(_pages.pages(io.BytesIO(data), 0, 9, 5))
