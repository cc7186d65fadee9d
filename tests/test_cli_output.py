"""What the commands say: text, one JSON object, or nothing."""

import json

import pytest

import pretrained_ports
from fam_jax import bulk
from tests.commands import TINY, inputs, run

BATCH = ("--batch", 2)  # each of eight devices fills one up
SMALL = (*TINY, "--image-size", 32, *BATCH)


def test_one_json_object_says_what_the_text_says(here):
    """Of the commands that take moments; the others are below."""
    result = run(
        "explain", "some/a.png", "some/b.png", "some/more/c.png", "--json", "-o", "out", *SMALL[:4]
    )
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert [pair["score"] for pair in summary["pairs"]] == manifest["scores"]
    assert [pair["reference"] for pair in summary["pairs"]] == ["some/b.png", "some/more/c.png"]
    assert all((here / file).is_file() for file in summary["files"])
    assert len(summary["files"]) == len(manifest["files"])

    summary = json.loads(run("models", "--json").stdout)
    assert [model["name"] for model in summary["models"]] == pretrained_ports.names()
    summary = json.loads(run("models", "dinov2-small-reg4", "--json").stdout)
    grids = {layer["path"]: layer["grid"] for layer in summary["layers"]}
    assert (grids[summary["layer"]], grids["norm"]) == ([37, 37], None)

    summary = json.loads(run("convert", "headed.safetensors", "b.safetensors", "--json").stdout)
    assert (summary["model"], summary["files"]) == ("tiny", ["b.safetensors"])
    assert set(summary["ignored"]) == {"head.0.kernel", "head.0.bias"}


def test_large_jobs_in_json(here):
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    (here / "pairs.csv").unlink()
    (here / "pairs.csv").write_text("query,reference\nsome/a.png,some/b.png\nno.png,some/a.png\n")
    result = run("map", "pairs.csv", "-o", "maps", "--map-size", 12, *SMALL, "--json")
    assert result.exit_code == 3, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["store"], summary["pairs"], summary["invalid"]) == ("maps", 2, 1)
    assert summary["reasons"]["1"].startswith("query: no such file")
    assert bulk.open_store("maps").array("query_maps").shape == (2, 12, 12)

    summary = json.loads(run("index", "some", "-o", "index", *SMALL, "--json").stdout)
    assert summary.pop("notes") == [
        "tiny knows 18 photographs and little else; --model takes another"
    ]
    expected = {"index": "index", "model": "tiny", "pictures": 4, "invalid": 0, "reasons": {}}
    assert summary == expected
    line = ("retrieve", "some/a.png", "--index", "index", "--top", 2, "-o", "page", *BATCH)
    result = run(*line, "--maps", "hits", "--map-size", 9, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    (nearest,) = summary["nearest"]
    assert nearest["hits"][0]["picture"] == str(here / "some" / "a.png")
    assert nearest["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert bulk.open_store(summary["store"]).array("query_maps").shape == (2, 9, 9)
    assert summary["files"][0] == "page/index.html"
    summary = json.loads(run("report", "maps", "-o", "page", "--overwrite", "--json").stdout)
    assert all((here / file).is_file() for file in summary["files"])


def test_an_evaluation_in_json(here):
    pytest.importorskip("skimage", reason="needs the demo extra: scikit-image and scikit-learn")
    line = "evaluate mosaic --image-size 32 --cases 2 --steps 2 --methods fam,random -o out"
    result = run(*line.split(), *TINY, "--weights", "random", "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["methods"] == list(summary["means"]) == ["fam", "random"]
    assert summary["means"]["fam"]["mass inside"]["cases"] == 2
    assert "out/table.csv" in summary["files"]
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["weights"] == {"source": "random weights, seed 0"}
    assert manifest["image_size"] == [32, 32]


def test_quiet_commands_say_nothing_but_errors(here):
    lines = {
        "explain some/a.png some/b.png -o out --image-size 32": 0,
        "convert headed.safetensors b.safetensors": 0,
        "map pairs.csv -o maps --image-size 32 --batch 2": 0,
        "index some -o index --image-size 32 --batch 2": 0,
    }
    for line, code in lines.items():
        result = run(*line.split(), "--quiet", *(() if line.startswith("convert") else TINY))
        assert (result.exit_code, result.output) == (code, ""), line
    result = run("explain", "some/a.png", "none.png", *TINY, "--quiet", "--json", "-o", "other")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no such file: none.png\n"


NASTY = "a\nb\x1b[31m.png"  # a file may be called so
ESCAPED = r"a\nb\x1b[31m.png"


@pytest.fixture
def nasty(tmp_path, monkeypatch):
    """A picture, one that cannot be read and one that is not there, called so."""
    here = inputs(tmp_path)
    monkeypatch.chdir(here)
    (here / "some" / "a.png").rename(here / "some" / NASTY)
    (here / "some" / f"bad{NASTY}").write_text("no picture")
    return [f"some/{x}{NASTY}" for x in ("", "bad", "gone")]


def assert_escaped(*command):
    """What is said is printable, and an error one line."""
    result = run(*command)
    text = result.stdout + result.stderr
    assert text.replace("\n", "").isprintable(), command
    if command[0] not in ("convert", "models") and "--weights" not in command:
        assert ESCAPED in text, (command, text)
    if result.exit_code == 2:
        assert result.stderr.count("\n") == 1, text
    else:
        assert result.exit_code in (0, 3), text


def test_names_do_not_reach_the_terminal_as_control_characters(nasty):
    """In what is written and left out, and in every command's errors."""
    picture, bad, gone = nasty
    assert_escaped("explain", picture, "some/b.png", bad, *SMALL[:4], "-o", f"out{NASTY}")
    assert_escaped("explain", gone, "some/b.png", *TINY, "-o", "none")
    assert_escaped("redraw", gone)
    assert_escaped("report", gone)
    assert_escaped("retrieve", picture, "--index", gone)
    assert_escaped("evaluate", "fewshot", *TINY, "--data", gone, "-o", "none")
    assert_escaped("convert", gone, "x.safetensors")
    assert_escaped("models", gone)
    assert_escaped("explain", picture, "some/b.png", "--weights", gone, "-o", "none")


@pytest.mark.slow
def test_nor_do_names_of_large_jobs_and_figures(nasty, tmp_path):
    """By every other command that says one; escaped on a page, too."""
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    picture, *_ = nasty
    job = ("--index", "index", "--top", 1, "--method", "fam", *BATCH)
    folders = ("--queries", "some", "--references", "some/more")
    assert_escaped("index", "some", *SMALL, "-o", "index")
    assert_escaped("map", *folders, *SMALL, "-o", f"maps{NASTY}")
    assert_escaped("retrieve", picture, *job, "-o", "page", "--maps", "hits")
    assert_escaped("explain", picture, "some/b.png", *SMALL[:4], "-o", f"out{NASTY}")
    assert_escaped("redraw", f"out{NASTY}", "-o", f"again{NASTY}")
    page = (tmp_path / "page" / "index.html").read_text()
    assert ESCAPED in page
    assert "\x1b" not in page
