"""Positions on a grid that is no square: told, kept when converted, said where it is a guess."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fam_jax
import pretrained_ports
from fam_jax.apps.network import open_network
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.checkpoints import CheckpointError, write
from pretrained_ports.conversion import convert_file
from pretrained_ports.models.state import parameters
from pretrained_ports.models.vit import VisionTransformer
from tests.close import assert_close
from tests.commands import inputs, run
from tests.ports.test_vit import small

NAME = "vit-tiny-patch16"
WIDE, FLAT = (9, 16), (16, 8)  # as many patches as 12 x 12; more than 11 x 11 by other tokens


@pytest.fixture(scope="module", autouse=True)
def small_row():
    """The model is a small one with patches of 4 pixels, in `create` and in `load`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENTRIES, NAME, small(ENTRIES[NAME], depth=1))
        yield


@pytest.fixture(scope="module", params=[WIDE, FLAT], ids=["9 x 16", "16 x 8"])
def file(request, tmp_path_factory):
    """A network of positions on a grid, in a file that does not say which; and what it gives."""
    grid = request.param
    entry = ENTRIES[NAME]
    design = entry.build.args[0]._replace(grid=grid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENTRIES, NAME, replace(entry, build=partial(VisionTransformer, design)))
        model = pretrained_ports.create(NAME).model
    model.pos_embed[...] = jax.random.normal(jax.random.key(1), model.pos_embed.shape)
    path = tmp_path_factory.mktemp("grid") / "silent.safetensors"
    arrays = {key: np.asarray(value) for key, value in parameters(model).items()}
    save_file(arrays, path, {"architecture": NAME, "dialect": "native"})
    images = np.random.default_rng(0).standard_normal((1, 4 * grid[0], 4 * grid[1], 3), np.float32)
    images = jnp.asarray(images)
    return path, grid, images, model(images)


def test_told_it_gives_the_embeddings_of_the_original(file):
    path, grid, images, expected = file
    backbone = pretrained_ports.load(NAME, path, grid=grid)
    assert backbone.preprocess.size == images.shape[1:3]
    assert backbone.report.notes == ()
    assert_close(backbone.model(images), expected)
    enc = fam_jax.capture(backbone)(images)
    assert enc.activations.shape[1:3] == grid


def test_a_converted_file_says_it(file, tmp_path):
    path, grid, images, expected = file
    target = tmp_path / "told.safetensors"
    convert_file(path, target, NAME, grid=grid)
    with safe_open(target, "np") as header:
        assert header.metadata()["grid"] == f"{grid[0]} {grid[1]}"
    assert_close(pretrained_ports.load(NAME, target).model(images), expected)


def test_not_told_a_square_is_a_guess_that_is_said(file):
    path, grid, images, expected = file
    if grid == FLAT:
        with pytest.raises(CheckpointError, match=r"on a grid that is no square: grid= \(--grid\)"):
            pretrained_ports.load(NAME, path)
        return
    backbone = pretrained_ports.load(NAME, path)
    (note,) = backbone.report.notes
    assert note.startswith("its 144 positions are taken for a square of 12 x 12 patches")
    assert note in str(backbone.report)
    assert np.abs(backbone.model(images) - expected).max() > 0.01


def test_the_models_own_grid_is_no_guess(tmp_path):
    """Nor does a header with it change the preprocessing."""
    own = pretrained_ports.create(NAME)
    file = write(tmp_path / "own.safetensors", own.model, {"architecture": NAME})
    backbone = pretrained_ports.load(NAME, file)
    assert backbone.report.notes == ()
    assert backbone.preprocess == own.preprocess


@pytest.mark.parametrize(
    ("name", "grid", "error", "message"),
    [
        (NAME, (7, 7), CheckpointError, "positions are not those of a grid of 7 x 7 patches"),
        (NAME, (0, 16), ValueError, "grid: vit-tiny-patch16 needs rows and columns of at least 1"),
        ("conv4", WIDE, ValueError, "grid: conv4 has no positions on a grid of patches"),
    ],
)
def test_what_cannot_be_is_refused(file, name, grid, error, message):
    with pytest.raises(error, match=message):
        pretrained_ports.load(name, file[0], grid=grid)


def test_another_width_is_no_matter_of_the_grid(file, tmp_path):
    arrays = load_file(file[0])
    arrays["pos_embed"] = arrays["pos_embed"][:, :, :12].copy()
    save_file(arrays, tmp_path / "narrow.safetensors", {"architecture": NAME})
    with pytest.raises(CheckpointError, match="pos_embed is") as refused:
        pretrained_ports.load(NAME, tmp_path / "narrow.safetensors")
    assert "grid" not in str(refused.value)


def test_a_damaged_header_is_one_line(file, tmp_path):
    path, *_ = file
    arrays = load_file(path)
    said = {"architecture": NAME, "dialect": "native", "grid": "many"}
    save_file(arrays, tmp_path / "bad.safetensors", said)
    with pytest.raises(CheckpointError, match="its header has a grid of 'many'; expected rows"):
        pretrained_ports.load(NAME, tmp_path / "bad.safetensors")


def test_the_commands_take_it_and_stores_keep_it(file, tmp_path, monkeypatch):
    path, grid, *_ = file
    if grid != WIDE:
        pytest.skip("once is enough")
    monkeypatch.chdir(inputs(tmp_path))
    model = ("--model", NAME, "--weights", path)
    told = run("explain", "some/a.png", "some/b.png", *model, "--grid", *WIDE, "-o", "out")
    assert told.exit_code == 0, told.stderr
    assert "taken for a square" not in told.stdout
    guessed = run("explain", "some/a.png", "some/b.png", *model, "-o", "guessed")
    assert "weights: its 144 positions are taken for a square of 12 x 12" in guessed.stdout
    assert run("index", "some", *model, "--grid", *WIDE, "-o", "made").exit_code == 0
    found = run("retrieve", "some/a.png", "--index", "made", "--top", 2, "-o", "page")
    assert found.exit_code == 0, found.stderr
    random = ("--model", NAME, "--weights", "random", "--grid", *WIDE)
    refused = run("explain", "some/a.png", "some/b.png", *random, "-o", "none")
    assert refused.exit_code == 2
    assert "random weights have none" in refused.stderr
    assert open_network(NAME, path, grid=WIDE).part() == {"grid": [9, 16]}
