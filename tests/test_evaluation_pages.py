"""The evaluation's pages: each table once, a row for each run, rows written from a run's folder."""

import re

import jax
import numpy as np
import pytest

from benchmarks import evaluation
from fam_jax import metrics
from fam_jax.evaluate import tables

PAGES = sorted(evaluation.DOCUMENTS.glob("evaluation*.md"))
TABLES = (*evaluation.QUESTIONS, *(f"alternatives, {name}" for name in ("pointing", "boxes")))
RUNS = {row[0]: row[1:] for row in map(evaluation.cells, evaluation.standing("runs")[2:])}
METHODS = (*evaluation.SEVEN, "random", "eigen-cam", "hires-cam-free")


def test_every_table_has_one_place():
    text = "".join(page.read_text() for page in PAGES)
    for name in (*TABLES, "runs", *(run for run in evaluation.FULL if RUNS[run][0])):
        found = re.findall(
            rf"<!-- {re.escape(name)} -->\n\n\|.*?\|\n\n<!-- end -->", text, re.DOTALL
        )
        assert len(found) == 1, name


def test_every_run_has_its_command():
    assert list(RUNS) == list(evaluation.RUNS)
    for run, (_, command) in RUNS.items():
        plain = evaluation.command(run).format(assets="ASSETS", models="MODELS")
        assert command == f"`{plain}`"


@pytest.mark.parametrize("name", evaluation.QUESTIONS)
def test_every_run_that_is_done_has_its_rows(name):
    question = evaluation.QUESTIONS[name]
    heads, _, *rows = map(evaluation.cells, evaluation.standing(name))
    asked = [question.key(run, m) for run, m in question.asked() if RUNS[run][0]]
    keys = [tuple(row[: len(asked[0])]) for row in rows]
    assert heads == question.heads
    assert keys == [key for key in asked if key in keys]  # a run may have some of the measures
    assert {key[0] for key in keys} == {key[0] for key in asked}
    assert all(len(row) == len(heads) for row in rows)


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """Copies of the pages, where runs may write."""
    for page in PAGES:
        (tmp_path / page.name).write_text(page.read_text())
    monkeypatch.setattr(evaluation, "DOCUMENTS", tmp_path)
    return tmp_path


@pytest.fixture
def values(tmp_path):
    """Method -> measure -> a number per case, in the folder of a run of mosaics."""
    numbers = np.random.default_rng(0).uniform(size=(len(METHODS), 2, 9)).astype(np.float32)
    found = {
        method: dict(zip(("mass inside", "pointing"), columns, strict=True))
        for method, columns in zip(METHODS, numbers, strict=True)
    }
    folder = tmp_path / "runs" / "mosaic-resnet20"
    (folder / "methods").mkdir(parents=True)
    for method, columns in found.items():
        rows = zip(*columns.values(), strict=True)
        text = "\n".join(["mass inside,pointing", *(f"{a},{b}" for a, b in rows)])
        (folder / "methods" / f"{method}.csv").write_text(text)
    parts = ["# resnet20", "9 cases.", "Mean.", tables.markdown(tables.means(found)), "More."]
    (folder / "table.md").write_text("\n\n".join(parts))
    return found


def test_a_run_writes_its_rows_and_leaves_the_others(pages, values):
    before = {name: evaluation.standing(name) for name in (*TABLES, "runs")}
    evaluation.write(pages / "runs")
    for name, old in before.items():
        new = evaluation.standing(name)
        ours = [i for i, line in enumerate(old) if new[i] != line]
        if name in ("pointing", "mass", "runs"):
            assert [evaluation.cells(old[i])[0].split()[-1] for i in ours] == ["resnet20"]
        else:
            assert ours == []
        assert len(new) == len(old)
    heads, _, *rows = map(evaluation.cells, evaluation.standing("pointing"))
    (row,) = (dict(zip(heads, row, strict=True)) for row in rows if row[0] == "resnet20")
    fam, ours = (values[name]["pointing"] for name in ("fam", "contrastive"))
    assert float(row["fam"]) == pytest.approx(fam.mean(), abs=1e-3)
    gain = metrics.paired_difference(ours, fam, jax.random.key(0))
    expected = tables.with_error(float(gain.mean), float(gain.error), sign="+")
    assert row["contrastive less fam"] == expected
    other = max(("eigen-cam", "hires-cam-free"), key=lambda name: values[name]["pointing"].mean())
    assert row["best other"].startswith(f"`{other}` ")


def test_rows_that_stand_do_not_fit_other_columns(pages):
    with pytest.raises(SystemExit, match="swapped references: other columns"):
        evaluation.put("swapped references", ["network", "mine"], {}, [("tiny",)])
