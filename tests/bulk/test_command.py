"""The commands for large jobs, as a user meets them."""

import dataclasses
import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import fam_jax
import pretrained_ports
from fam_jax import bulk
from fam_jax.apps.main import app
from fam_jax.apps.progress import ProgressLine
from fam_jax.bulk import Progress
from fam_jax.io import pictures
from tests.bulk import toy
from tests.commands import TINY


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Five pairs of four pictures, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("in")
    table = toy.table(folder, 5, images=3)
    (folder / "bad.png").write_text("no picture")
    table.write_text(table.read_text() + "bad.png,000.png,broken\n")
    return table


@pytest.fixture(scope="module")
def store(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "maps"
    result = run("map", table, *TINY, "--output", out, "--batch", 2)
    return out, result


def test_map_writes_a_store_and_says_what_has_no_maps(table, store):
    out, result = store
    assert result.exit_code == 3, result.stderr
    assert f"{out}: 6 pairs, 1 of them without maps\n" in result.stdout
    assert "  broken: query: " in result.stdout
    assert "bad.png is not a picture that Pillow can read" in result.stdout
    maps = bulk.open_store(out)
    assert maps.settings["model"] == "tiny"
    backbone = pretrained_ports.load("tiny")
    encode = fam_jax.capture(backbone)
    (row,) = maps.rows([0])
    pair = [backbone.preprocess(pictures.read(path))[None] for path in (row.query, row.reference)]
    expected = fam_jax.explain_pairs(encode, *pair)
    np.testing.assert_allclose(row.score, expected.scores[0], atol=1e-5)
    span = float(np.ptp(expected.query_maps[0]))
    np.testing.assert_allclose(row.query_map, expected.query_maps[0], atol=1e-3 * span)


def test_the_same_command_again_has_nothing_to_do(table, store):
    out, _ = store
    before = toy.files(out)
    result = run("map", table, *TINY, "--output", out, "--batch", 2)
    assert result.exit_code == 3
    assert toy.files(out) == before


def test_another_command_is_refused(table, store):
    out, _ = store
    result = run("map", table, *TINY, "--output", out, "--batch", 2, "--dtype", "uint8")
    assert result.exit_code == 2
    assert "(map_dtype: float16 there, uint8 now); take another --out" in result.stderr


def test_all_pairs_against_a_background(table, tmp_path):
    """Folders in place of a table, the contrastive method, bfloat16 and a size."""
    folder = table.parent
    for name in ("q", "r"):
        toy.pictures(tmp_path / name, 2)
    folders = ["--queries", tmp_path / "q", "--references", tmp_path / "r"]
    background = ["--background", folder / "000.png", "--background", folder / "001.png"]
    stored = ["--map-size", 20, "--dtype", "uint8", "--output", tmp_path / "maps"]
    method = ["--method", "contrastive", *background]
    result = run("map", *folders, *TINY, *method, *stored, "--compute", "bfloat16")
    assert result.exit_code == 0, result.stderr
    store = bulk.open_store(tmp_path / "maps")
    assert store.array("query_maps").shape == (2, 2, 20, 20)
    assert (store.settings["compute"], store.settings["background"]) == ("bfloat16", 2)


def test_index_retrieve_and_report(table, tmp_path):
    """A gallery, its nearest pictures, a page of why; the store kept on request."""
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    gallery = tmp_path / "gallery"
    paths = toy.pictures(gallery, 5)
    result = run("index", gallery, *TINY, "-o", tmp_path / "index")
    assert result.exit_code == 0, result.stderr
    assert "5 pictures, 0 of them not readable" in result.stdout
    query = ["retrieve", paths[3], "--index", tmp_path / "index", "--top", 2]
    kept = ["--output", tmp_path / "page", "--maps", tmp_path / "maps"]
    result = run(*query, *kept, "--method", "decomposition")
    assert result.exit_code == 0, result.stderr
    assert f"  1  1.0000  {paths[3]}\n" in result.stdout
    assert "rank 2" in (tmp_path / "page" / "index.html").read_text()
    assert bulk.open_store(tmp_path / "maps").settings["method_name"] == "decomposition"
    for command in (["retrieve", "no.png", "--output"], ["report", tmp_path / "maps", "--output"]):
        result = run(*command, tmp_path / "page")
        assert result.exit_code == 2
        assert "is not empty" in result.stderr  # said before anything else is done
    result = run("report", tmp_path / "maps", "--output", tmp_path / "page", "--overwrite")
    assert result.exit_code == 0, result.stderr


def test_all_of_uncropped_pictures_is_seen_with_fit_pad(tmp_path):
    """By every command for a gallery; what was made one way does not go on, or answer, another."""
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    rng, gallery = np.random.default_rng(0), tmp_path / "gallery"
    gallery.mkdir()
    for name, shape in (("tall.png", (80, 40, 3)), ("wide.png", (40, 100, 3))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(gallery / name)
    boxes = [(-20.0, 0.0, 60.0, 80.0), (0.0, -30.0, 100.0, 70.0)]
    own = pretrained_ports.load("tiny").preprocess
    padded = dataclasses.replace(own, fit="pad")

    job = ["map", "--queries", gallery, "--references", gallery, *TINY, "-o", tmp_path / "maps"]
    assert run(*job, "--fit", "pad").exit_code == 0
    store = bulk.open_store(tmp_path / "maps")
    row = store.rows([1])[0]
    assert [row.query_box, row.reference_box] == boxes
    encode = fam_jax.capture(pretrained_ports.load("tiny"))
    pair = [padded(pictures.read(path))[None] for path in (row.query, row.reference)]
    assert row.score == pytest.approx(
        float(fam_jax.explain_pairs(encode, *pair).scores[0]), abs=1e-5
    )
    result = run(*job, "--fit", "crop")
    assert result.exit_code == 2
    assert "(fit: pad there, crop now); take another --output" in result.stderr

    made = ["index", gallery, *TINY, "-o", tmp_path / "index"]
    assert run(*made, "--fit", "pad").exit_code == 0
    result = run(*made)
    assert result.exit_code == 2
    assert "(fit: pad there, crop now); take another --output" in result.stderr
    search = ["retrieve", gallery / "tall.png", "--index", tmp_path / "index", "--top", 2]
    search += ["--method", "fam", "-o", tmp_path / "page", "--maps", tmp_path / "hits"]
    result = run(*search, "--fit", "crop")
    assert result.exit_code == 2
    assert "index was made with another --fit: pad there, crop now\n" in result.stderr
    assert run(*search).exit_code == 0
    hits = bulk.open_store(tmp_path / "hits").rows([0, 1])
    assert [hit.reference_box for hit in hits] == boxes
    assert hits[1].score == pytest.approx(row.score, abs=1e-3)
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count('class="map"') == 4, "a picture without its map"


def test_an_index_of_other_weights_is_not_searched_with_these(tmp_path):
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    (path,) = toy.pictures(tmp_path / "gallery", 1)
    assert run("index", tmp_path / "gallery", *TINY, "-o", tmp_path / "index").exit_code == 0
    query = ["retrieve", path, "--index", tmp_path / "index"]
    result = run(*query, "--weights", "random", "--output", tmp_path / "page")
    assert result.exit_code == 2
    assert "was made with another network, or with other weights" in result.stderr
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["map"], "give a table of PAIRS, or both --queries and --references"),
        (["map", "a.csv", "--queries", "x"], "give a table of PAIRS, or both"),
        (["map", "--queries", "x"], "give a table of PAIRS, or both"),
        (["map", "none.csv"], "no such file: none.csv"),
        (["map", "a.csv", "--method", "contrastive"], "give them with --background"),
        (["map", "a.csv", "--method", "magic"], "--method: expected one of"),
        (["map", "a.csv", "--compute", "int8"], "--compute: expected one of float32, bfloat16"),
        (["map", "a.csv", "--batch", "0"], "--batch"),
        (["map", "a.csv", "--fit", "tile"], "--fit tile takes other windows of a picture for"),
        (["map", "a.csv", "--fit", "crops"], "--fit: expected one of crop, pad, got 'crops'"),
        (["map", "a.csv", "--model", "resnet51"], "resnet51"),
        (["index", "none"], "no such folder: none"),
        (["retrieve", "a.png", "--index", "none"], "fam-jax index makes one"),
        (["report", "none"], "fam-jax map makes one"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("query,reference\na,b\n")
    result = run(args[0], *(TINY if args[0] in ("map", "index") else ()), *args[1:])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def shown(terminal, moments):
    out, now = io.StringIO(), iter([0.0, *moments])
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    with ProgressLine(console, clock=lambda: next(now)) as line:
        for i in range(len(moments)):
            line(
                Progress("pairs", 10 * (i + 1), 1000, invalid=i, computed=10 * (i + 1), seconds=5.0)
            )
    return out.getvalue()


def test_a_log_line_a_minute_where_there_is_no_terminal():
    lines = shown(False, [1, 30, 61, 62, 100, 122]).splitlines()
    assert lines == [
        "30 of 1,000 pairs, 6.0 pairs/s, 0:02:42 left, 2 invalid",
        "60 of 1,000 pairs, 12.0 pairs/s, 0:01:18 left, 5 invalid",
    ]


def test_a_bar_on_a_terminal():
    assert "20 of 1,000 pairs, 4.0 pairs/s, 0:04:05 left, 1 invalid" in shown(True, [1, 2])


WATCHED = """
import os, sys, time
sys.path.insert(0, {root!r})
from fam_jax.apps.hosts import message_if_killed
with message_if_killed():
    print("in", flush=True)
    time.sleep({seconds})
"""


@pytest.mark.parametrize(("seconds", "killed"), [(60, True), (0, False)])
def test_a_process_that_is_ended_from_outside_says_what_to_do(seconds, killed):
    """Whatever ended it: jax's runtime, when another host is lost, or the scheduler."""
    root = os.path.dirname(os.path.dirname(fam_jax.__file__))
    script = WATCHED.format(root=root, seconds=seconds)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "in\n"
        if killed:
            process.send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert ("run the same command again on every host" in err) == killed
    assert (process.returncode == 0) != killed


@pytest.mark.slow
def test_two_hosts_by_the_command_line(table, store, tmp_path):
    """`--distributed` on each gives the store of one host, bit for bit, and one report."""
    port, out = toy.free_port(), tmp_path / "maps"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    command = [sys.executable, "-c", "from fam_jax.apps.main import main; main()"]
    command += ["map", str(table), *TINY, "--batch", "2", "--output", str(out), "--distributed"]
    command += ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process"]
    started = [
        subprocess.Popen(
            [*command, str(i)],
            env={**os.environ, "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [3, 3], outputs
    assert ["6 pairs, 1 of them without maps" in out for out, _ in outputs] == [True, False]
    alone, _ = store
    assert toy.files(out) == toy.files(alone)
