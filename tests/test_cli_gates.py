"""`--gates` reaches the encoder, the manifest and the store in every command that has it."""

import json

import numpy as np
import pytest

import fam_jax
from fam_jax import bulk
from fam_jax.apps.network import open_network
from fam_jax.io import pictures
from tests.close import assert_close
from tests.commands import run

PAIR = ("some/a.png", "some/b.png")
VIT = ("--model", "vit-mini-patch8", "--weights", "random", "--image-size", 32)
PATCHES = ("--layer", "patch_embed", "--gates", "frozen", "--method", "decomposition")


@pytest.mark.numerics
def test_frozen_gates_from_file_to_map(here):
    net = open_network("vit-mini-patch8", "random", image_size=32)
    images = [net.preprocess(pictures.read(name))[None] for name in PAIR]
    maps = {
        gates: fam_jax.explain_pairs(
            fam_jax.capture(net.backbone.model, at="patch_embed", gates=gates),
            *images,
            fam_jax.decomposition(),
        ).query_maps
        for gates in ("free", "frozen")
    }
    assert run("explain", *PAIR, *VIT, *PATCHES, "-o", "out").exit_code == 0
    drawn = np.load("out/maps.npz")["query_maps"]
    assert_close(drawn, maps["frozen"])
    assert np.abs(drawn - maps["free"]).max() > 0.01 * np.abs(drawn).max()
    assert json.loads((here / "out" / "manifest.json").read_text())["gates"] == "frozen"


def test_a_store_keeps_its_gates(here):
    line = ("map", "pairs.csv", *VIT, *PATCHES, "--batch", 2, "-o", "maps")
    assert run(*line).exit_code == 0
    assert bulk.open_store("maps").settings["gates"] == "frozen"
    again = run(*(word if word != "frozen" else "free" for word in line))
    assert again.exit_code == 2
    assert "gates" in again.stderr


def test_others_are_refused_in_a_line(here):
    result = run("explain", *PAIR, *VIT, "--gates", "shut", "-o", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--gates: expected one of free, frozen, got 'shut'" in result.stderr
    assert not (here / "out").exists()
