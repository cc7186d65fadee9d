"""The nearest pictures of an index, and why: the background is the index."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fam_jax.apps.live.answers import Answer, of_pictures
from fam_jax.apps.live.opened import Background, Opened, Picture
from fam_jax.methods.registry import entry
from fam_jax.store import VALID

THE_INDEX = "all pictures of the index"


@dataclass(frozen=True, eq=False)
class Gallery:
    """An index of `fam-jax index`, the network it was made with, and all of it as a background."""

    index: Any
    opened: Opened
    background: Background

    @classmethod
    def of(cls, index: Any, opened: Opened) -> "Gallery":
        """Of an index that was opened; one of a single picture is no background."""
        try:
            bank = index.background(opened.similarity)
        except ValueError:
            return cls(index, opened, Background())
        return cls(index, opened, Background(bank, THE_INDEX))


class Hit(NamedTuple):
    """A picture of the index: its place from 1, its similarity, and its row."""

    rank: int
    similarity: float
    path: str


class Found(NamedTuple):
    """The hits that could be read, with their maps, and why others could not."""

    hits: list[Hit]
    answer: Answer | None
    left_out: list[str]


def nearest(gallery: Gallery, query: Picture, top: int, layer: str, method: str) -> Found:
    """The `top` nearest pictures, fewer if the index has fewer, each explained on both sides."""
    opened, index = gallery.opened, gallery.index
    z = opened.embed(query.image)
    if not np.isfinite(z).all():
        raise ValueError(f"the embedding of {query.name} is not finite")
    valid = int((index.status() == VALID).sum())
    scores, rows = index.search(z, min(top, valid), opened.similarity)
    hits, pictures, left_out = [], [], []
    for rank, (score, row) in enumerate(zip(scores[0].tolist(), rows[0], strict=True), start=1):
        path = index.pictures[row]
        try:
            pictures.append(opened.read(Path(path)))
        except ValueError as error:
            left_out.append(f"hit {rank} has gone: {error}")
            continue
        hits.append(Hit(rank, score, path))
    if not hits:
        return Found([], None, left_out)
    needed = not method or entry(method).background == "needed"  # as the command takes it
    background = gallery.background if needed else Background()
    answer = of_pictures(opened, layer, method, query, pictures, background)
    return Found(hits, answer, left_out)
