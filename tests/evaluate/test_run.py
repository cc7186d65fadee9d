"""A whole run: its files, taking it up again, and what it says of what it left out."""

import csv
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax.apps.main import main
from fam_jax.evaluate import asking, tasks
from fam_jax.evaluate.results import _OWN, Results
from fam_jax.evaluate.run import evaluate
from fam_jax.methods import registry
from tests.evaluate import toy

METHODS = ["random", "fam", "interaction-cam", "chefer"]


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return str(toy.folder(tmp_path_factory.mktemp("data") / "colours"))


def go(
    task,
    data,
    folder,
    methods=METHODS,
    overwrite=False,
    similarity=fam_jax.cosine,
    measures=(),
    network=None,
    **options,
):
    lines = []
    settings = {
        "model": "colours",
        "task": task,
        "layer": "conv",
        "gates": "free",
        "map": [4, 4],
        **options,
    }
    evaluate(
        network or toy.network(similarity=similarity),
        task,
        tasks.Options(data, **options),
        methods,
        settings,
        folder,
        measures=measures,
        overwrite=overwrite,
        say=lines.append,
    )
    return "\n".join(lines)


def table(folder):
    with open(folder / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_all_it_promises_and_goes_on_where_it_stopped(colours, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".run.json.0123abcd.part").touch()  # as a kill leaves it
    output = go("retrieval", colours, folder, METHODS[:2], cases=4)
    assert "4 cases (nearest of 12); the network itself: recall@1 1.000" in output
    names = sorted(f.name for f in folder.iterdir())
    assert names == sorted(["methods", *_OWN])  # whose halves of a kill go
    assert " ".join(names) == (
        "curves.png examples.png manifest.json methods run.json table.csv table.md"
    )
    rows = table(folder)
    assert {row["method"] for row in rows} == set(METHODS[:2])
    assert {row["cases"] for row in rows} == {"4"}
    assert all(np.isfinite(float(row["mean"])) for row in rows)
    assert "Differences from `fam`, case by case." in (folder / "table.md").read_text()

    before = {f: f.stat().st_mtime_ns for f in (folder / "methods").iterdir()}
    (folder / "methods" / "random.csv").unlink()
    half = folder / "methods" / ".random.csv.0123abcd.part"
    half.touch()
    other = folder / ".mine.0123abcd.part"  # of another program
    other.touch()
    go("retrieval", colours, folder, METHODS[:2], cases=4)
    changed = [f.name for f, time in before.items() if f.stat().st_mtime_ns != time]
    assert sorted(changed) == ["random.csv", "random.npz"]
    assert (half.exists(), other.exists()) == (False, True)

    output = go("retrieval", colours, folder, METHODS, cases=4)
    assert "left out: chefer: this method is for transformers" in output
    text = (folder / "table.md").read_text()
    assert "| interaction-cam |" in text
    assert "- chefer: this method is for transformers" in text

    with pytest.raises(FileExistsError, match="differs in: cases; pass --overwrite"):
        go("retrieval", colours, folder, METHODS[:1], cases=3)


def test_some_measures_of_a_task_are_enough(colours, tmp_path):
    go("retrieval", colours, tmp_path / "out", ["fam"], measures=["pairs"], cases=2, steps=2)
    with open(tmp_path / "out" / "methods" / "fam.csv", newline="") as file:
        (first, *_) = csv.DictReader(file)
    assert [*first][1:] == ["both: insertion - deletion"]


def test_sanity_measures_what_a_map_depends_on(colours, tmp_path):
    go("sanity", colours, tmp_path / "out", ["activation-sum", "fam-contrastive"], cases=4)
    means = {(row["method"], row["measure"]): float(row["mean"]) for row in table(tmp_path / "out")}
    assert means["activation-sum", "swap: Spearman"] == pytest.approx(1, abs=1e-6)
    assert means["activation-sum", "with sum of A: Spearman"] == pytest.approx(1, abs=1e-5)
    assert means["fam-contrastive", "swap: Spearman"] < 0.5
    assert "max-sensitivity" in {measure for _, measure in means}
    for share in ("last stage", "half", "all"):  # another network has other maps
        assert means["fam-contrastive", f"{share} random: Spearman"] < 0.95
    assert means["activation-sum", "all random: Spearman"] < 0.95


def test_maps_without_evidence_are_counted_and_named(colours, tmp_path, monkeypatch):
    def silent(similarity=fam_jax.cosine):
        return fam_jax.Method(
            similarity, lambda s, enc, r: jnp.zeros((len(r), 4, 4)).at[0].set(jnp.eye(4))
        )

    monkeypatch.setitem(registry._METHODS, "silent", registry.Entry(silent))
    folder = tmp_path / "out"
    output = go("mosaic", colours, folder, ["silent", "fam"], cases=3)
    assert "no evidence: silent: 2 of 3 maps are all zeros (mosaic 1: " in output
    assert "fam:" not in output
    # ... and still when the method is not run again
    assert "silent: 2 of 3 maps" in go("mosaic", colours, folder, ["silent", "fam"], cases=3)


def refuses_when_made(similarity=fam_jax.cosine):
    if similarity is fam_jax.dot:
        raise TypeError("similarity: expected\nthe cosine")
    return fam_jax.activation_sum(similarity)


def refuses_networks(similarity=fam_jax.cosine):
    def layers(names):
        raise ValueError("no such layers here")

    return fam_jax.Method(
        similarity, lambda s, enc, r: enc.activations, frozenset({"layers"}), layers
    )


def wrong(similarity=fam_jax.cosine):
    return fam_jax.Method(similarity, lambda s, enc, r: enc.activations @ np.ones((7, 7)))


def test_a_refusal_leaves_a_method_out(colours, tmp_path, monkeypatch):
    """Of the similarity, or of the network."""
    for factory in (refuses_when_made, refuses_networks):
        monkeypatch.setitem(registry._METHODS, factory.__name__, registry.Entry(factory))
    methods = ["refuses_when_made", "refuses_networks", "fam"]
    lines = go("mosaic", colours, tmp_path / "out", methods, similarity=fam_jax.dot, cases=2)
    assert "left out: refuses_when_made: similarity: expected the cosine\n" in lines
    assert "left out: refuses_networks: no such layers here\n" in lines
    assert [row["method"] for row in table(tmp_path / "out")] == ["fam"] * 2


ATTENTION = ["attention-rollout", "chefer", "le-grad", "le-grad-contrastive", "grad-eclip"]


def test_the_main_methods_are_those_for_transformers_too():
    assert [name for name in asking.named(["main"]) if name in ATTENTION] == ATTENTION


def test_a_transformer_that_knows_no_tokens_is_evaluated_without_its_attention(colours, tmp_path):
    """One line says which methods that leaves out, and why."""
    network = toy.network(model=toy.Attentive)
    options = {"cases": 2, "measures": ["place"], "network": network}
    lines = go("mosaic", colours, tmp_path / "out", ["fam", *ATTENTION[:3]], **options)
    why = "tokens: this method reads tokens; expected capture(..., tokens=TokenGrid(...))"
    assert f"left out: {', '.join(ATTENTION[:3])}: {why}\n" in lines
    assert {row["method"] for row in table(tmp_path / "out")} == {"fam"}


def test_an_error_in_a_methods_maps_is_not_hidden(colours, tmp_path, monkeypatch):
    """And the methods before it are done: they are not run again."""
    monkeypatch.setitem(registry._METHODS, "wrong", registry.Entry(wrong))
    with pytest.raises(TypeError, match="dot_general requires contracting dimensions"):
        go("mosaic", colours, tmp_path / "out", ["fam", "wrong", "random"], cases=2)
    names = {file.name for file in (tmp_path / "out" / "methods").iterdir()}
    assert names == {"fam.csv", "fam.npz"}


def test_another_folders_files_are_safe(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="is not empty; pass --overwrite"):
        Results(tmp_path / "mine", {})
    Results(tmp_path / "mine", {}, overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    with pytest.raises(FileExistsError, match="is a file"):
        Results(tmp_path / "mine" / "letter.txt", {})


def test_numbers_come_back_as_they_went(tmp_path):
    results = Results(tmp_path / "out", {"seed": 0})
    assert not results.has("fam")
    values = {"mass": np.array([0.25, np.nan], np.float32)}
    results.add("fam", ["a, b", "c"], values, {"maps": np.zeros((2, 3, 3))})
    assert results.has("fam")
    np.testing.assert_array_equal(results.values("fam")["mass"], values["mass"])
    assert results.arrays("fam")["maps"].shape == (2, 3, 3)
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == {"seed": 0}


def test_weights_are_the_same_wherever_they_lie(tmp_path):
    weights = {"path": "a.safetensors", "sha256": "0123"}
    Results(tmp_path / "out", {"weights": weights})
    Results(tmp_path / "out", {"weights": weights | {"path": "elsewhere/b.safetensors"}})
    with pytest.raises(FileExistsError, match="differs in: weights"):
        Results(tmp_path / "out", {"weights": weights | {"sha256": "4567"}})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["mosaics"], "TASK: expected one of fewshot.*did you mean 'mosaic'"),
        (["mosaic", "--methods", "fan"], "--methods: expected one of .*did you mean 'fam'"),
        (["mosaic", "--methods", ","], "--methods: no method is named"),
        (["mosaic", "--similarity", "cos"], "--similarity: expected one of"),
        (["mosaic", "--cases", "0"], "--cases: expected a positive integer, got 0"),
        (["mosaic", "--data", "nowhere"], "--data: no such file or folder: nowhere"),
        (["mosaic", "--model", "conv4", "--image-size", "28"], "conv4 has no default weights"),
        (["localization", "--data", "nowhere"], "--data: no such"),
        (["mosaic", "--measures", "places"], "--measures: expected one of place"),
        (["mosaic", "--measures", ""], "--measures: expected one of place"),
        (["stereo", "--measures", "place"], "--measures: stereo has one measure"),
        (["verification", "--data", "nowhere.csv"], "--data: no such file: nowhere.csv"),
    ],
)
def test_bad_use_is_one_line(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--model", "tiny", *args])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    assert re.search(message, error), error
