"""The embedded network: what it promises of any input, and what its shipped weights know."""

import subprocess
import sys
from functools import cache
from math import ceil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from fam_jax.io import photographs
from fam_jax.metrics import energy_in, pointing
from pretrained_ports.checkpoints import convert, read
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.models.state import parameters
from pretrained_ports.models.tiny import Tiny
from pretrained_ports.preprocess import IMAGENET_MEAN, IMAGENET_STD
from tests.close import assert_close
from tests.ports import network

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "pretrained_ports" / "weights" / "tiny.safetensors"


@cache
def abstract():
    return nnx.eval_shape(lambda: Tiny(rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def trained():
    model, _ = convert(read(WEIGHTS), lambda shapes: network.filled(Tiny), [DIALECTS["native"]])
    model.eval()
    return model


def normalised(images):
    scaled = images.astype(np.float32) / 255
    return (scaled - np.reshape(IMAGENET_MEAN, (1, 1, 1, 3)).astype(np.float32)) / np.reshape(
        IMAGENET_STD, (1, 1, 1, 3)
    ).astype(np.float32)


@pytest.mark.parametrize("size", [(32, 32), (33, 61), (128, 64)])
def test_any_size(trained, size):
    images = np.ones((2, *size, 3), np.float32)
    enc = fam_jax.capture(trained, at="layer3")(images)
    assert enc.embeddings.shape == (2, 128)
    assert enc.activations.shape[1:3] == tuple(ceil(ceil(side / 4) / 2) for side in size)
    A = np.asarray(enc.activations)
    assert_close(enc.embeddings, A.mean((1, 2)), relative_to=np.abs(A).mean((1, 2)))


def test_too_small_an_image_is_refused(unchecked):
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, got 31 x 64"):
        network.filled(Tiny)(jnp.ones((1, 31, 64, 3)))


def test_jit_vmap_grad_agree(x64):
    model = network.filled(Tiny, dtype="float64")
    images = np.random.default_rng(0).standard_normal((3, 32, 32, 3))
    plain = model(jnp.asarray(images))
    assert_close(network.embed(model, images), plain, rtol=1e-12)
    assert_close(network.one_by_one(model, images), plain, rtol=1e-12)
    for path, leaf in network.gradients(model, images).items():
        assert np.isfinite(leaf).all(), path
        assert leaf.any() or leaf.ndim == 1, path


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_computes_in_the_type_of_its_parameters(dtype):
    with jax.enable_x64(dtype == "float64"):
        out = network.embed(network.filled(Tiny, dtype=dtype), np.ones((1, 32, 32, 3), np.float32))
    assert out.dtype == dtype
    assert np.isfinite(out.astype(float)).all()


def test_training_changes_the_batch_statistics_and_evaluation_does_not():
    model = network.filled(Tiny)
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3), np.float32)
    before = np.asarray(model.bn1.mean[...])
    run = nnx.jit(lambda model, x: model(x))
    run(model, images)
    assert (np.asarray(model.bn1.mean[...]) == before).all()
    model.train()
    run(model, images)
    assert (np.asarray(model.bn1.mean[...]) != before).any()


def test_the_docstring_counts_the_parameters():
    import pretrained_ports.models.tiny as module

    count = sum(p.size for p in jax.tree.leaves(nnx.state(abstract(), nnx.Param)))
    assert f"{count:,} parameters" in module.__doc__


def test_the_shipped_weights_are_small_and_say_where_they_come_from():
    checkpoint = read(WEIGHTS)
    assert WEIGHTS.stat().st_size < 3e6
    assert checkpoint.metadata["architecture"] == "tiny"
    assert "examples/train_contrastive.py" in checkpoint.metadata["trained_by"]
    assert set(checkpoint.tensors) == set(parameters(abstract()))


def test_the_shipped_weights_find_the_right_cell(trained):
    """The mosaic game on crops that were never trained on, well above chance (0.25)."""
    games = photographs.mosaics(photographs.load(), np.random.default_rng(1234), count=60)
    enc = fam_jax.capture(trained, at="layer3")(normalised(games.images))
    references = trained(jnp.asarray(normalised(games.references)))
    masks = games.masks[:, ::8, ::8]
    for method, least in (
        (fam_jax.fam(), 0.6),
        (fam_jax.decomposition(), 0.6),
        (fam_jax.grad_cam(norms="free"), 0.6),
    ):
        maps = method(enc, references)
        assert float(energy_in(maps, masks).mean()) > least
        assert float(pointing(maps, masks).mean()) > least
    plain = fam_jax.activation_sum()(enc, references)
    assert abs(float(energy_in(plain, masks).mean()) - 0.25) < 0.1


@pytest.mark.slow
def test_the_training_script_runs_and_writes_what_can_be_read(tmp_path):
    file = tmp_path / "quick.safetensors"
    command = [sys.executable, "-W", "error", "examples/train_contrastive.py", "--quick"]
    run = subprocess.run(
        [*command, "--out", str(file)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "fam-contrastive: mass" in run.stdout
    assert set(read(file).tensors) == set(parameters(abstract()))
