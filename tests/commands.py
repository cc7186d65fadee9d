"""The command line in a test, and files for it to read."""

from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import pretrained_ports
from fam_jax.apps.main import app
from pretrained_ports.checkpoints import write

TINY = ("--model", "tiny")  # in moments, whatever is installed


def run(*args):
    """What a command says, and its exit code."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


def inputs(folder: Path) -> Path:
    """Four pictures, two of them in a folder of the folder; a table of pairs; weights."""
    rng = np.random.default_rng(0)
    (folder / "some" / "more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "more/c.png", "more/d.png")):
        pixels = rng.integers(0, 256, (40, 50, 3)) // 2 + 30 * i
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "some" / name)
    (folder / "pairs.csv").write_text("query,reference\nsome/a.png,some/b.png\n")
    file = folder / "headed.safetensors"
    write(file, pretrained_ports.create("tiny").model, {"architecture": "tiny"})
    head = {"head.0.kernel": rng.normal(size=(128, 8)), "head.0.bias": rng.normal(size=8)}
    tensors = load_file(file) | {name: value.astype("f") for name, value in head.items()}
    save_file(tensors, file, {"architecture": "tiny"})
    return folder
