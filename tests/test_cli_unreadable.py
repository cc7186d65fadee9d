"""A picture that cannot be read is named, and stops only what it must."""

import json

import numpy as np
import pytest

from fam_jax import bulk
from tests.commands import TINY, run

SMALL = (*TINY, "--image-size", 32)
BAD = "bad.png is not a picture that Pillow can read"


@pytest.fixture
def here(here):
    (here / "bad.png").write_text("no picture")
    (here / "mixed").mkdir()
    for name in ("c.png", "d.png"):
        (here / "mixed" / name).symlink_to(here / "some" / "more" / name)
    (here / "mixed" / "bad.png").write_text("no picture")
    return here


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_a_reference_among_several(here):
    line = ("explain", "some/a.png", "bad.png", "some/b.png", "none.png", "some/more/c.png")
    result = run(*line, *SMALL, "-o", "out")
    assert result.exit_code == 3, result.stderr
    assert f"left out: {BAD}\nleft out: no such file: none.png\n" in result.stdout
    facts = manifest(here / "out")
    reasons = {"bad.png": BAD, "none.png": "no such file: none.png"}
    assert facts["left_out"] == reasons
    assert len(facts["references"]) == len(facts["scores"]) == 2
    assert (here / "out" / "pair-2.png").exists()
    good = run("explain", "some/a.png", "some/b.png", "some/more/c.png", *SMALL, "-o", "good")
    assert good.exit_code == 0
    assert manifest(here / "good")["left_out"] == {}
    maps = [np.load(f"{name}/maps.npz")["query_maps"] for name in ("out", "good")]
    np.testing.assert_array_equal(*maps)
    result = run(*line, *SMALL, "-o", "json", "--json")
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    assert summary["left_out"] == reasons
    assert [pair["reference"] for pair in summary["pairs"]] == ["some/b.png", "some/more/c.png"]


NOTHING_LEFT = {
    "the query": ("explain bad.png some/b.png", BAD),
    "all references": ("explain some/a.png bad.png none.png", f"{BAD}; no such file: none.png"),
    "all of the background": ("explain some/a.png some/b.png --background bad.png", BAD),
    "all of a job's background": ("map pairs.csv --background bad.png --background none", BAD),
    "no such folder": (
        "map pairs.csv --background none",
        "no such file or folder: none",
    ),
}


@pytest.mark.parametrize("case", NOTHING_LEFT)
def test_nothing_left_to_do_is_an_error(case, here):
    line, message = NOTHING_LEFT[case]
    result = run(*line.split(), *SMALL, "-o", "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (here / "out").exists()


def test_a_background_picture_among_many(here):
    pair = ("some/a.png", "some/b.png", *SMALL)
    given = ("--background", "mixed", "--background", "none.png")
    result = run("explain", *pair, *given, "-o", "out", "--json")
    assert result.exit_code == 3, result.stderr
    assert json.loads(result.stdout)["left_out"] == {
        "none.png": "no such file or folder: none.png",
        f"{here}/mixed/bad.png": f"{here}/mixed/{BAD}",
    }
    assert len(manifest(here / "out")["background"]) == 2
    assert run("explain", *pair, "--background", "some/more", "-o", "good").exit_code == 0
    maps = [np.load(f"{name}/maps.npz")["query_maps"] for name in ("out", "good")]
    np.testing.assert_array_equal(*maps)


def test_a_background_picture_of_a_job(here):
    line = ("map", "pairs.csv", *SMALL, "--background", "mixed", "--batch", 2, "-o", "maps")
    result = run(*line)
    assert result.exit_code == 3, result.stderr
    assert f"left out: {here}/mixed/{BAD}\n" in result.stdout
    settings = bulk.open_store("maps").settings
    assert settings["background"] == 2
    assert settings["background_left_out"] == [f"{here}/mixed/bad.png"]


def test_a_query_among_several(here):
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    assert run("index", "some", *SMALL, "--batch", 2, "-o", "index").exit_code == 0
    line = ("retrieve", "some/a.png", "bad.png", "some/b.png", "--index", "index", "--top", 1)
    result = run(*line, "--batch", 2, "-o", "page", "--json")
    assert result.exit_code == 3, result.stderr
    summary = json.loads(result.stdout)
    assert [entry["query"] for entry in summary["nearest"]] == ["some/a.png", "some/b.png"]
    assert [entry["hits"][0]["score"] for entry in summary["nearest"]] == pytest.approx([1, 1])
    assert summary["left_out"] == {"bad.png": f"{here}/{BAD}"}
    result = run("retrieve", "bad.png", "--index", "index", "--top", 1, "-o", "other")
    assert result.exit_code == 2
    assert result.stderr == f"error: {here}/{BAD}\n"
