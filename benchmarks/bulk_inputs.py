"""What the jobs of `bulk.py` are made of: pictures, pairs, networks."""

import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

import fam_jax
import pretrained_ports
from fam_jax.bulk import Progress
from fam_jax.io import photographs

CONSOLE = Console(width=110)
SCRIPT = Path(__file__).with_name("bulk.py")


def crops(folder: Path, n: int, side: int | None, sources: list[Image.Image]) -> list[str]:
    """Parts of photographs as JPEG files; of their own size, or `side` pixels."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(n):
        photo = sources[i % len(sources)]
        size = int(min(photo.size) * rng.uniform(0.5, 1.0))
        left, top = (int(rng.integers(0, length - size + 1)) for length in photo.size)
        part = photo.crop((left, top, left + size, top + size))
        path = folder / f"{i:05}.jpg"
        (part.resize((side, side)) if side else part).save(path, quality=90)
        paths.append(str(path))
    return paths


def pairs_of(paths: list[str], n: int) -> list[tuple[str, str]]:
    """Pairs of different pictures, at random."""
    rng = np.random.default_rng(1)
    return [tuple(paths[i] for i in rng.choice(len(paths), 2, replace=False)) for _ in range(n)]


def demo_photos() -> list[Image.Image]:
    """Photographs that ship inside packages."""
    return [Image.fromarray(photo.image) for photo in photographs.load()]


def captured(network: str):
    """A network with random weights, ready to explain."""
    backbone = pretrained_ports.create(network)
    return backbone, fam_jax.capture(backbone)


class Steps:
    """When each step was written."""

    def __init__(self):
        self.times, self.last = [], None

    def __call__(self, progress: Progress) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())
        self.last = progress
