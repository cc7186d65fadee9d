"""The examples run as their first lines say, in their quick form."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

pytest.importorskip("skimage", reason="needs the demo extra: scikit-image and scikit-learn")


def run(*args):
    command = [sys.executable, *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_the_mosaic_game_prints_its_table():
    assert "swap correlation" in run("examples/mosaic_game.py", "--quick")
