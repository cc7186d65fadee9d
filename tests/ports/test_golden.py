"""The embeddings that PyTorch gave, for weights made by a formula: parity where torch is not."""

import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import pretrained_ports
from pretrained_ports.checkpoints import Checkpoint
from tests.close import assert_close
from tests.ports import network

pytestmark = pytest.mark.numerics

FOLDER = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("make_golden", FOLDER / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


# A plain and a few-shot network, padding of odd sides and registers; the larger ones wait.
QUICK = ("resnet18", "cifar-resnet20", "conv4", "conv4-omniglot", "resnet12", "relationnet")
QUICK += ("efficientnet-lite0", "vit-tiny-patch16", "dinov2-small-reg4")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in make.SHAPES],
)
def test_embedding_is_that_of_pytorch(name):
    golden = np.load(FOLDER / "golden.npz")
    shapes = dict(row.split(" ", 1) for row in golden[f"{name} keys"].tolist())
    weights = {key: make.tensor(key, tuple(json.loads(s))) for key, s in shapes.items()}
    backbone = pretrained_ports.load(name, Checkpoint(Path("golden.npz"), weights))
    with jax.default_matmul_precision("highest"):
        embedding = network.embed(backbone.model, make.images(make.SHAPES[name]))[:, ::4]
    assert_close(embedding, golden[f"{name} embedding"])
