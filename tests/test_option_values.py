"""Values of options that are none are refused in one line, before anything is made."""

import pytest

from fam_jax import bulk
from fam_jax.bulk._pairs import TablePairs
from tests.bulk import toy
from tests.commands import TINY, run

CASES = {
    "map pairs.csv --workers -1": "--workers",
    "map pairs.csv --workers 100000": "--workers: expected at most 256",
    "index some --workers -1": "--workers",
    "map pairs.csv --image-size 1000000": "--image-size: expected at most 8,192",
    "map pairs.csv --map-size 1000000": "--map-size: expected at most 4,096",
    "map pairs.csv --head drpo": "--head: ",
    "index some --head drpo": "--head: ",
    "explain a.png b.png --head drpo": "--head: ",
    "evaluate mosaic --head drpo": "--head: ",
    "explain a.png b.png --gates shut": "--gates: ",
    "evaluate mosaic --gates shut": "--gates: ",
    "map pairs.csv --compute float33": "--compute: ",
    "map pairs.csv --dtype float33": "--dtype: ",
    "explain a.png b.png -o gs://bucket/x": "is an address",
    "evaluate mosaic -o gs://bucket/x": "is an address",
    "retrieve a.png -o s3://bucket/x": "is an address",
}


@pytest.mark.parametrize("command", CASES)
def test_a_value_that_is_none_makes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run(*command.split(), *(() if command.startswith("retrieve") else TINY))
    assert (said.exit_code, CASES[command] in said.output) == (2, True), said.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "query,reference,query\na.png,b.png,c.png\n"),
        ("a.jsonl", '{"query": "a.png", "reference": "b.png", "query": "c.png"}\n'),
    ],
)
def test_a_column_that_stands_twice_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: several columns are called query"):
        TablePairs(tmp_path / name, 2)


def test_a_batch_is_no_larger_than_the_table(tmp_path):
    paths = toy.pictures(tmp_path / "in", 3)
    told = {"preprocess": toy.Preprocess(), "batch": 10**9}
    bulk.run(toy.encoder(), [(paths[0], paths[1])], tmp_path / "store", **told)
    bulk.index(toy.encoder(), paths, tmp_path / "index", **told)
    assert bulk.open_store(tmp_path / "store").settings["batch"] == 1
    assert bulk.open_index(tmp_path / "index").settings["batch"] == 3
