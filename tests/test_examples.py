"""The examples run as their first lines say, in their quick form."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

pytest.importorskip("skimage", reason="needs the demo extra: scikit-image and scikit-learn")
pytest.importorskip("optax", reason="needs the train extra: optax")


def run(*args):
    command = [sys.executable, *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_contrastive_training_writes_weights_that_load(tmp_path):
    import pretrained_ports

    file = tmp_path / "tiny.safetensors"
    printed = run("examples/train_contrastive.py", "--quick", "--out", file)
    assert "Recall@1" in printed
    assert "contrastive fam" in printed
    assert pretrained_ports.load("tiny", weights=file).report.dialect == "native"


def test_the_mosaic_game_prints_its_table():
    assert "swap correlation" in run("examples/mosaic_game.py", "--quick")
