"""The embeddings that PyTorch gave, for weights made by a formula: parity where torch is not."""

import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import pretrained_ports

FOLDER = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("make_golden", FOLDER / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


@pytest.mark.parametrize("name", make.SHAPES)
def test_embedding_is_that_of_pytorch(name, tmp_path):
    golden = np.load(FOLDER / "golden.npz")
    shapes = dict(row.split(" ", 1) for row in golden[f"{name} keys"].tolist())
    weights = {key: make.tensor(key, tuple(json.loads(s))) for key, s in shapes.items()}
    save_file(weights, tmp_path / "weights.safetensors")
    backbone = pretrained_ports.load(name, tmp_path / "weights.safetensors")
    with jax.default_matmul_precision("highest"):
        embedding = jax.jit(backbone.model)(make.images(make.SHAPES[name]))[:, ::4]
    expected = golden[f"{name} embedding"]
    assert np.abs(embedding - expected).max() <= 1e-5 * np.abs(expected).max()
