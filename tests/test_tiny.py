"""The embedded network: what it promises of any input, and what its shipped weights know."""

import subprocess
import sys
from math import ceil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from fam_jax.demo import photographs
from fam_jax.metrics import energy_in, pointing
from pretrained_ports.checkpoint import read
from pretrained_ports.convert import convert, parameters
from pretrained_ports.dialects import DIALECTS
from pretrained_ports.preprocess import IMAGENET_MEAN, IMAGENET_STD
from pretrained_ports.tiny import Tiny

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "pretrained_ports" / "weights" / "tiny.safetensors"


def build(param_dtype=jnp.float32):
    return Tiny(rngs=nnx.Rngs(0), param_dtype=param_dtype)


@pytest.fixture(scope="module")
def trained():
    model, _ = convert(read(WEIGHTS), lambda shapes: build(), [DIALECTS["native"]])
    model.eval()
    return model


def normalised(images):
    scaled = images.astype(np.float32) / 255
    return (scaled - np.reshape(IMAGENET_MEAN, (1, 1, 1, 3)).astype(np.float32)) / np.reshape(
        IMAGENET_STD, (1, 1, 1, 3)
    ).astype(np.float32)


@pytest.mark.parametrize("size", [(32, 32), (33, 61), (128, 64)])
def test_any_size(trained, size):
    images = jnp.ones((2, *size, 3))
    enc = fam_jax.capture(trained, at="layer3")(images)
    assert enc.embeddings.shape == (2, 128)
    assert enc.activations.shape[1:3] == tuple(ceil(ceil(side / 4) / 2) for side in size)
    np.testing.assert_allclose(enc.embeddings, enc.activations.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_too_small_an_image_is_refused(unchecked):
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, got 31 x 64"):
        build()(jnp.ones((1, 31, 64, 3)))


def test_jit_vmap_grad_agree(trained):
    images = jax.random.normal(jax.random.key(0), (3, 32, 32, 3))
    plain = trained(images)
    np.testing.assert_allclose(jax.jit(lambda x: trained(x))(images), plain, rtol=1e-4, atol=1e-5)
    one_by_one = jax.vmap(lambda x: trained(x[None])[0])(images)
    np.testing.assert_allclose(one_by_one, plain, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda x: trained(x).sum())(images)
    assert gradient.shape == images.shape
    assert jnp.isfinite(gradient).all()


def test_bfloat16():
    model = build(jnp.bfloat16)
    model.eval()
    out = jax.jit(lambda images: model(images))(jnp.ones((1, 32, 32, 3), jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    assert np.isfinite(out.astype(jnp.float32)).all()


def test_float64(x64):
    model = build(jnp.float64)
    model.eval()
    out = jax.jit(lambda images: model(images))(jnp.ones((1, 32, 32, 3)))
    assert out.dtype == jnp.float64


def test_training_changes_the_batch_statistics_and_evaluation_does_not():
    model = build()
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    before = np.asarray(model.bn1.mean[...])
    model.eval()
    model(images)
    assert (np.asarray(model.bn1.mean[...]) == before).all()
    model.train()
    model(images)
    assert (np.asarray(model.bn1.mean[...]) != before).any()


def test_the_docstring_counts_the_parameters():
    import pretrained_ports.tiny as module

    count = sum(p.size for p in jax.tree.leaves(nnx.state(build(), nnx.Param)))
    assert f"{count:,} parameters" in module.__doc__


def test_the_shipped_weights_are_small_and_say_where_they_come_from():
    checkpoint = read(WEIGHTS)
    assert WEIGHTS.stat().st_size < 3e6
    assert checkpoint.metadata["architecture"] == "tiny"
    assert "examples/train_contrastive.py" in checkpoint.metadata["trained_by"]
    assert set(checkpoint.tensors) == set(parameters(build()))


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


def test_the_training_script_runs_and_writes_what_can_be_read(tmp_path):
    file = tmp_path / "quick.safetensors"
    command = [sys.executable, "-W", "error", "examples/train_contrastive.py", "--quick"]
    run = subprocess.run(
        [*command, "--out", str(file)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "contrastive fam: mass" in run.stdout
    assert set(read(file).tensors) == set(parameters(build()))
