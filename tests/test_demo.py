"""The demonstration: its figures, its maps, its numbers, with either network."""

import json

import numpy as np
import pytest

import pretrained_ports
from fam_jax.apps import demo
from tests.commands import run

pytest.importorskip("skimage", reason="needs the demo extra: scikit-image and scikit-learn")
FIGURES = {"pairs.png", "mosaics.png", "retrieval.png", "failure.png"}


def shown(folder):
    """What the demo wrote: the manifest, and the raw maps."""
    result = run("demo", "-o", folder, "--json")
    assert result.exit_code == 0, result.output
    assert {file.name for file in folder.iterdir()} == {*FIGURES, "maps.npz", "manifest.json"}
    manifest = json.loads((folder / "manifest.json").read_text())
    said = json.loads(result.stdout)
    assert said["scores"] == manifest["mosaics"]["scores"]
    assert said["model"] == manifest["model"]
    with np.load(folder / "maps.npz") as maps:
        return manifest, dict(maps)


@pytest.mark.slow
def test_tiny_stands_in_where_the_weights_are_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained_ports, "weights_installed", lambda name: name == "tiny")
    manifest, maps = shown(tmp_path / "demo")
    assert manifest["model"] == "tiny"
    scores = manifest["mosaics"]["scores"]
    plain = scores["activation-sum"]["mass"]
    assert 0.15 < plain < 0.35, "the plain sum knows nothing of the reference: chance is 0.25"
    assert scores["fam"]["mass"] > plain + 0.1
    assert scores["contrastive"]["mass"] > scores["fam"]["mass"]
    # The numbers are of the maps that were kept.
    assert len(maps["mosaics_fam"]) == manifest["mosaics"]["count"]
    assert run("demo", "-o", tmp_path / "demo").exit_code == 2, "nothing is overwritten unasked"


@pytest.mark.slow
def test_the_strong_network_points(tmp_path, monkeypatch):
    if not pretrained_ports.weights_installed("efficientnet-lite0"):
        pytest.skip("needs the demo extra: the weights of efficientnet-lite0")
    monkeypatch.setattr(demo, "GAMES", 40)
    manifest, maps = shown(tmp_path / "demo")
    assert manifest["model"] == "efficientnet-lite0"
    scores = manifest["mosaics"]["scores"]
    assert scores["contrastive"]["pointing"] > 0.8 > 0.5 > scores["activation-sum"]["pointing"]
    assert scores["contrastive"]["mass"] > scores["fam"]["mass"] + 0.2
    # One photograph, two references: another place for each of them.
    rocket, coffee = (np.unravel_index(m.argmax(), m.shape) for m in maps["pairs_query_maps"])
    assert rocket[0] < 3 < coffee[0], "the shuttle is above, the helmet below"
