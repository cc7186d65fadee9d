"""Models by name."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from tests.ports import network

NAMES = [
    "tiny",
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("cifar-resnet20", "cifar-resnet32", "cifar-resnet44", "cifar-resnet56", "cifar-resnet110"),
    *("conv4", "conv4-omniglot"),
]
ROOT = Path(__file__).resolve().parents[2]


def test_names():
    assert set(NAMES) <= set(pretrained_ports.names())


@pytest.mark.parametrize("name", ["resnet18", "cifar-resnet20", "conv4-omniglot"])
def test_create(name):
    backbone = pretrained_ports.create(name, seed=1)
    assert backbone.name == name
    assert backbone.source == "random weights, seed 1"
    assert backbone.report is None
    assert backbone.tokens is None
    preprocess = backbone.preprocess
    picture = preprocess(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    embedding = network.embed(backbone.model, picture[None])
    assert embedding.shape == (1, backbone.embedding_dim)
    assert np.isfinite(embedding).all()
    assert hasattr(backbone.model, backbone.layer)


def test_a_seed_fixes_the_weights():
    first, same, other = (
        pretrained_ports.create("conv4", seed=seed).model.block3.conv.kernel[...]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert (np.asarray(first) != other).any()


def test_the_embedded_weights_load_without_a_file():
    backbone = pretrained_ports.load("tiny")
    assert backbone.source == "embedded tiny.safetensors"
    assert backbone.report.fits
    assert backbone.embedding_dim == 128


def test_unknown_names_get_the_nearest_right_ones():
    with pytest.raises(ValueError, match="no model 'resnet51'; the nearest names are: resnet50"):
        pretrained_ports.load("resnet51")
    with pytest.raises(ValueError, match="cifar-resnet20"):
        pretrained_ports.create("cifar_resnet20")


def test_unknown_dialects_get_the_right_ones():
    with pytest.raises(ValueError, match="no dialect 'timm' for resnet18; there are: auto, torchv"):
        pretrained_ports.load("resnet18", "a.pth", dialect="timm")


def test_models_without_default_weights_say_so():
    with pytest.raises(ValueError, match=r"conv4 has no default weights: pass weights=FILE .*, or"):
        pretrained_ports.load("conv4")


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("offline"),
        OfflineModeIsEnabled("offline"),
        ConnectionError("no route"),
    ],
)
def test_offline_the_error_says_what_to_fetch(monkeypatch, error):
    def offline(repository, file):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(pretrained_ports.CheckpointError) as caught:
        pretrained_ports.load("resnet50")
    assert "model.safetensors of the Hugging Face repository timm/resnet50.tv_in1k" in str(
        caught.value
    )
    assert "weights=FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_row_is_complete():
    for entry in ENTRIES.values():
        assert "native" in entry.dialects
        assert not (entry.hub and entry.embedded)


def test_the_import_is_light():
    code = (
        "import sys, pretrained_ports; "
        "print([m for m in ('torch', 'matplotlib', 'fam_jax') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
