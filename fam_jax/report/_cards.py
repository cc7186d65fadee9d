"""From rows of a store to what the page says of each pair; writes their pictures and maps."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np

from fam_jax._core.brief import escaped, legible
from fam_jax.plot.figures import SIGNED
from fam_jax.plot.heat import describe, save, scaled
from fam_jax.report._thumbnails import Thumbnail, Thumbnails
from fam_jax.store import VALID, Row, Store

_ROWS = 64  # rows, with their maps, in memory at a time
_AFTER_SEPARATOR = re.compile(f"(?<=[/{re.escape(os.sep)}])")


@dataclass(frozen=True)
class Heat:
    """A map: its file and size, and where it is high."""

    file: str
    width: int
    height: int
    words: str


@dataclass(frozen=True)
class Side:
    """One picture of a pair; `note` says why there is no map."""

    role: str
    name: str
    thumbnail: Thumbnail
    heat: Heat | None
    note: str = ""


@dataclass(frozen=True)
class Card:
    """A pair as the page shows it."""

    index: int
    name: str
    label: str
    score: float | None
    valid: bool
    reason: str
    sides: tuple[Side, Side]


def make_cards(
    store: Store, indices: list[int], stage: Path, thumbnails: Thumbnails, *, signed: bool
) -> list[Card]:
    """The cards of these rows, in their order; only some rows are in memory at a time."""
    cards = {}
    near = sorted(indices)  # rows beside each other lie in the same files of a store
    for start in range(0, len(near), _ROWS):
        for row in store.rows(near[start : start + _ROWS]):
            cards[int(row.index)] = _card(row, stage, thumbnails, signed)
    return [cards[index] for index in indices]


def _card(row: Row, stage: Path, thumbnails: Thumbnails, signed: bool) -> Card:
    valid, index = int(row.status) == VALID, int(row.index)
    sides = []
    for role in ("query", "reference"):
        path, box, map_ = (getattr(row, role + part) for part in ("", "_box", "_map"))
        thumbnail = thumbnails.of(str(path), box)
        heat, note = None, ""
        if valid and thumbnail.file:
            file = stage / f"map-{index:07d}-{role}.png"
            heat, note = _draw_map(map_, thumbnail, file, signed)
        thumbnail = replace(thumbnail, problem=escaped(thumbnail.problem))
        sides.append(Side(role, str(path), thumbnail, heat, note))
    score = float(row.score)
    return Card(
        index=index,
        name=legible(row.id) or f"pair {index}",
        label="" if row.label is None else escaped(row.label),
        score=score if math.isfinite(score) else None,
        valid=valid,
        reason=escaped(row.reason or "no reason was noted"),
        sides=tuple(sides),
    )


def _draw_map(
    map_: np.ndarray | None, thumbnail: Thumbnail, file: Path, signed: bool
) -> tuple[Heat | None, str]:
    """The map's file, or why there is none."""
    if map_ is None:
        return None, "no map"
    if map_.ndim != 2:
        raise ValueError(
            f"a report shows maps of pictures [h, w], this store has maps of shape {map_.shape}; "
            "draw them with fam_jax.plot.signal or fam_jax.plot.volume"
        )
    if not np.all(np.isfinite(map_)):
        return None, "no map: its values are not finite"
    if signed:  # evidence for the background is not drawn
        map_ = np.maximum(map_, 0)
    m = scaled(map_, (thumbnail.width, thumbnail.height), thumbnail.part)
    if not m.any():
        return None, "no map: it is the same everywhere"
    save(m, file)
    note = SIGNED if (m < 0).any() else ""
    return Heat(file.name, m.shape[1], m.shape[0], describe(m)), note


def shorten_names(cards: Sequence[Card]) -> tuple[list[Card], str]:
    """The cards with pictures named by what follows the folder they share, and that folder.

    Names without their folders would not do: cat/1.jpg and dog/1.jpg are two pictures.
    """
    names = [side.name for card in cards for side in card.sides]
    folders = zip(*(_AFTER_SEPARATOR.split(name)[:-1] for name in names), strict=False)
    shared = "".join(same[0] for same in takewhile(lambda same: len(set(same)) == 1, folders))

    def renamed(side: Side) -> Side:
        return replace(side, name=legible(side.name[len(shared) :]))

    short = [replace(card, sides=tuple(map(renamed, card.sides))) for card in cards]
    return short, legible(shared)
