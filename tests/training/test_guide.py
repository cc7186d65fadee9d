"""The Python of docs/training.md runs as printed, and names every function there is."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from pretrained_ports.models.conv4 import Conv4
from tests.documents import ROOT, blocks

optax = pytest.importorskip("optax", reason="needs the train extra")
pytest.importorskip("tensorboardX", reason="needs the train extra")

GUIDE = (ROOT / "docs" / "training.md").read_text()


def test_every_public_name_is_there():
    names = [name for name in dir(fam_jax.training) if not name.startswith("_")]
    public = [name for name in names if callable(getattr(fam_jax.training, name))]
    assert " ".join(public) == "MapLogger crop disagreement energy_outside strip total_variation"
    for name in public:
        assert re.search(rf"\b{name}\(", GUIDE), name


def test_the_python_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(4, 64, 64, 1)), jnp.float32)
    model = Conv4(1, width=8, head="pool", rngs=nnx.Rngs(0))
    method, encode = fam_jax.decomposition(), fam_jax.capture(model, at="block3")
    prototypes = jnp.ones((4, 8))
    labels, masks = jnp.array([0, 0, 1, 1]), jnp.ones((4, 64, 64), bool)

    def task(z, prototypes, labels):
        return jnp.mean((z - prototypes[labels]) ** 2)

    scope = globals() | {
        "model": model,
        "images": images,
        "labels": labels,
        "masks": masks,
        "classes": 2,
        "task": task,
        "optimizer": nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param),
        "method": method,
        "encode": encode,
        "prototypes": prototypes,
        "maps": method(encode(images), prototypes),
        "crops": images[:, 16:48, 16:48],
        "boxes": jnp.tile(jnp.array([0.25, 0.25, 0.75, 0.75]), (4, 1)),
        "queries": images[:2],
        "references": images[2:],
        "folder": "run/maps",
        "batches": iter([(images, labels, masks)] * 9),
        "steps": 3,
        "start": 2,
    }
    before = np.array(model.block1.conv.kernel[...])
    for block in blocks(GUIDE, "python"):
        exec(block, scope)
    assert (tmp_path / "run" / "maps" / "strip.png").exists()
    assert not np.array_equal(model.block1.conv.kernel[...], before)
