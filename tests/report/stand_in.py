"""A store in memory, over photographs that are at hand."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fam_jax.io import photographs
from fam_jax.store import Row

NASTY = "<b>\"'&.jpg"  # a file may be called so


def row(index: int, query: str, reference: str, score: float = 0.5, **fields) -> Row:
    """A row without maps."""
    names = {"id": "", "label": None, **fields}
    return Row(index, query=query, reference=reference, score=score, **names)


@dataclass
class Store:
    made: list[Row]
    path: str = "runs/pets"
    settings: dict = field(
        default_factory=lambda: {"model": "tiny", "layer": "layer3", "method": "fam", "batch": 64}
    )
    largest_slab: int = 0

    def __len__(self):
        return len(self.made)

    def scores(self):
        return np.array([row.score for row in self.made], np.float32)

    def status(self):
        return np.array([row.status for row in self.made], np.uint8)

    def rows(self, indices):
        self.largest_slab = max(self.largest_slab, len(indices))
        return [self.made[i] for i in indices]

    def but(self, index, **changes):
        """The store with one row changed."""
        made = list(self.made)
        made[index] = made[index]._replace(**changes)
        return replace(self, made=made)


def save_pictures(folder: Path) -> list[Path]:
    """Photographs in two folders that share names, one of them with a name to stumble over."""
    files = []
    for i, photo in enumerate(photographs.load(side=240)[:8]):
        name = NASTY if i == 3 else f"{i // 2}.jpg"
        files.append(folder / ("cat", "cats")[i % 2] / name)
        files[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(photo.image).save(files[-1])
    return files


def store_of(files: list[Path], n: int) -> Store:
    """Pairs of the files; scores go up and down, maps differ."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        query, reference = str(files[i % len(files)]), str(files[(i * 3 + 1) % len(files)])
        maps = rng.random((2, 7, 7), np.float32) ** 4
        score = float(np.float32((i * 7 % n) / n))
        rows.append(
            Row(
                index=i,
                id=f"pair-{i:04d}",
                label=("same", None)[i % 2],
                query=query,
                reference=reference,
                score=score,
                query_map=maps[0],
                reference_map=maps[1],
                query_box=(20.0, 10.0, 220.0, 210.0),
            )
        )
    return Store(rows)
