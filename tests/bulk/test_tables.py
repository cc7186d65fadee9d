"""Tables of pairs in three formats give the same pairs; what is wrong is said with its row."""

import json
import os

import pyarrow as pa
import pytest
from etils import epath
from pyarrow import parquet

from fam_jax import bulk
from fam_jax.bulk._pairs import TablePairs
from fam_jax.io import pictures

ROWS = [
    {"query": "a.png", "reference": "b.png", "id": "one", "label": "1"},
    {"query": "a.png", "reference": "ü, c.png", "id": "two", "label": None},
    {"query": "/x/d.png", "reference": "gs://bucket/e.png", "id": None, "label": "0"},
]


def write(folder, suffix):
    file = folder / f"pairs{suffix}"
    if suffix == ".csv":
        lines = ["label,query,other,reference,id"]
        lines += [
            "1,a.png,-,b.png,one",
            ',a.png,-,"ü, c.png",two',
            "0,/x/d.png,-,gs://bucket/e.png,",
        ]
        file.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    elif suffix == ".jsonl":
        file.write_text("\n\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    else:
        parquet.write_table(pa.Table.from_pylist(ROWS), file)
    return epath.Path(file)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_formats_agree(tmp_path, suffix):
    """With a byte order mark, quoted commas, empty cells and columns of others."""
    file = write(tmp_path, suffix)
    table = TablePairs(file, batch=2)
    given = TablePairs(ROWS, batch=2)
    assert table.scan == given.scan
    assert (table.scan.rows, table.scan.max_pictures) == (3, 3)
    table.save(epath.Path(tmp_path))
    saved = table.reopen(epath.Path(tmp_path))
    assert saved.chunk(0).pictures == [
        str(tmp_path / "a.png"),
        str(tmp_path / "b.png"),
        str(tmp_path / "ü, c.png"),
    ]
    assert (saved.chunk(0).query.tolist(), saved.chunk(0).reference.tolist()) == ([0, 0], [1, 2])
    assert saved.chunk(1).pictures == ["/x/d.png", "gs://bucket/e.png"]
    assert len(saved.pictures()) == 5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "query,image\na,b\n", "no column reference; there are: query, image"),
        ("a.csv", "query,reference\na.png,b.png\nc.png,\n", "no reference in row 2"),
        ("a.csv", "query,reference\n", "a.csv: no pairs"),
        ("a.csv", "query,reference\n\xff\xfe", "is no CSV file"),
        ("a.csv", "query,reference\n" + "a" * 4_194_305, "line 2: more than 4,194,304 letters"),
        ("a.csv", "query,reference\n" + "a" * 200_000 + ",b", "is no CSV file: field larger"),
        ("a.jsonl", '{"query": "a", "reference": "b"}\n{"query"', "line 2: not JSON"),
        ("a.jsonl", "[1, 2]\n", "line 1: expected an object with query, reference"),
        ("a.jsonl", '{"query": "a"}', "no column reference"),
        ("a.parquet", "no table", "is no Parquet file"),
        ("a.xlsx", "", r"from \.csv, \.jsonl or \.parquet, not '\.xlsx'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        TablePairs(tmp_path / name, batch=4)


def test_missing_files_and_rows_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.csv"):
        TablePairs(tmp_path / "none.csv", batch=4)
    with pytest.raises(ValueError, match=r"expected \(query, reference\) or a dict, got \('a',\)"):
        TablePairs([("a",)], batch=4)


def test_chunks_of_a_table_that_is_many_groups(tmp_path):
    """Rows are found across the groups in which the table is read."""
    rows = [(f"{i}.png", f"{i + 1}.png") for i in range(20_000)]
    table = TablePairs(rows, batch=48)
    table.save(epath.Path(tmp_path))
    saved = table.reopen(epath.Path(tmp_path))
    for chunk in (0, 169, 170, 171, 416):
        first = chunk * 48
        assert saved.chunk(chunk).pictures[:2] == [f"{first}.png", f"{first + 1}.png"][:2]
        assert len(saved.chunk(chunk).query) == min(48, 20_000 - first)


@pytest.mark.parametrize(("q", "r", "batch"), [(7, 40, 32), (1, 50, 16), (50, 1, 16), (5, 5, 7)])
def test_tiles_cover_a_grid_once(q, r, batch):
    """Whatever the sizes, every pair is in one tile of at most `batch` pairs."""
    queries, references = [f"q{i}" for i in range(q)], [f"r{i}" for i in range(r)]
    grid = bulk.grid(queries, references, batch)
    tiles = -(-q // grid.chunk_shape[0]) * -(-r // grid.chunk_shape[1])
    pairs = []
    for i in range(tiles):
        chunk = grid.chunk(i)
        assert len(chunk.pictures) <= grid.max_pictures
        assert len(chunk.query) <= batch
        pairs += [
            (chunk.pictures[a], chunk.pictures[b])
            for a, b in zip(chunk.query, chunk.reference, strict=True)
        ]
    assert sorted(pairs) == sorted((a, b) for a in queries for b in references)


def test_pictures_of_a_folder_and_those_in_it(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.JPG", "sub/a.png", "notes.txt"):
        (tmp_path / name).write_text("")
    assert pictures.listed(tmp_path) == [str(tmp_path / "b.JPG"), str(tmp_path / "sub/a.png")]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        pictures.listed(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures in the folder"):
        pictures.listed(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "line 1: lists in lists, too many"),
        ('{"query": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 1: lists in lists, too many"),
        ('{"query": {"a": 1}, "reference": "b"}', "query of row 1 is no text"),
        ('{"query": ["a"], "reference": "b"}', "query of row 1 is no text"),
        ('{"query": "a", "reference": "b"}\n{"query": "\xe9", "reference": "b"}', "line 2: not J"),
        ('{"query": "a", "reference": "' + "b" * 5000 + '"}', "reference of row 1 has 5,000 let"),
        ('{"query": "' + "b" * 5_000_000 + '"}', "line 1: more than 4,194,304 bytes"),
    ],
)
def test_json_of_any_shape_is_refused_by_line(tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=rf"a\.jsonl[:,] .*{message}|a\.jsonl: {message}"):
        TablePairs(tmp_path / "a.jsonl", batch=4)


def test_columns_of_other_plain_types_are_read(tmp_path):
    columns = {"query": ["a", "b"], "reference": ["c", "d"], "id": [1, 2], "label": [None, 0.5]}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = TablePairs(tmp_path / "a.parquet", batch=2)
    table.save(epath.Path(tmp_path))
    saved = table.reopen(epath.Path(tmp_path))
    assert saved.row(1)[:2] == ("2", "0.5")


def test_what_is_no_file_with_an_end_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a\.csv is a pipe or a device"):
        TablePairs(tmp_path / "a.csv", batch=2)
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(OSError, match=r"b\.csv is a folder"):
        TablePairs(tmp_path / "b.csv", batch=2)
