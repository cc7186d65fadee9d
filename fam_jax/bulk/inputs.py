"""What every step of a job of pairs starts from: pictures, or the features kept of them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import grain
import numpy as np

from fam_jax._core.features import Features
from fam_jax.bulk import loading, pairs
from fam_jax.bulk.drive import Inputs
from fam_jax.bulk.encode_once import feature_names
from fam_jax.bulk.share import Share, SharePaths
from fam_jax.bulk.store import Group, decode_text, wait


class Seen(NamedTuple):
    """What the host knows of a chunk.

    Attributes:
        query: the row of each pair's query among the chunk's pictures, [rows].
        reference: that of its reference.
        boxes: what the network sees of each picture, [pictures, 4].
        reasons: why a picture could not be read, or "".
    """

    query: np.ndarray
    reference: np.ndarray
    boxes: np.ndarray
    reasons: Sequence[str] | np.ndarray


class _Slots(NamedTuple):
    """The chunks of a share, padded to the same numbers of pairs and of pictures."""

    share: Share
    chunk: Callable[[int], pairs.Chunk]
    rows: int
    distinct: int

    @classmethod
    def of(cls, share: Share, source: pairs.Pairs) -> "_Slots":
        return cls(share, source.chunk, prod(source.chunk_shape), source.distinct)

    def at(self, step: int) -> list[pairs.Chunk]:
        """This process's chunks in a step; empty ones where they run out."""
        nothing = pairs.Chunk([], np.zeros(0, np.int32), np.zeros(0, np.int32))
        return [nothing if i is None else self.chunk(i) for i in self.share[step]]

    def padded(self, chunks: list[pairs.Chunk]) -> dict[str, np.ndarray]:
        """The rows of the chunks' pairs; those added ask for the first picture."""
        return {
            name: np.concatenate(
                [np.pad(rows, (0, self.rows - len(rows))) for rows in found]
            ).astype(np.int32)
            for name, found in (
                ("query", [c.query for c in chunks]),
                ("reference", [c.reference for c in chunks]),
            )
        }


def _pictures_of(source: pairs.Pairs, chunk: int) -> list[str]:
    return source.chunk(chunk).pictures


def from_pictures(
    share: Share, source: pairs.Pairs, load: loading.Load, workers: int
) -> Iterator[Inputs]:
    """Every chunk's pictures, each decoded once, and its pairs as rows of them."""
    slots = _Slots.of(share, source)
    paths = SharePaths(share, slots.distinct, partial(_pictures_of, source))
    size = len(share[0]) * slots.distinct
    for step, loaded in enumerate(loading.batches(load, paths, size, workers)):
        chunks = slots.at(step)
        boxes = loaded["box"].reshape(len(chunks), -1, 4)
        reasons = loaded["reason"].reshape(len(chunks), -1)
        seen = [
            Seen(chunk.query, chunk.reference, b, r)
            for chunk, b, r in zip(chunks, boxes, reasons, strict=True)
        ]
        yield Inputs({"images": loaded["image"], **slots.padded(chunks)}, seen)


def from_features(
    share: Share,
    source: pairs.Pairs,
    kept: Group,
    paths: Sequence[str],
    assemble: Callable[[dict[str, np.ndarray]], Features],
) -> Iterator[Inputs]:
    """Every chunk's pairs, and what was kept of its pictures."""
    slots = _Slots.of(share, source)
    number = {path: i for i, path in enumerate(paths)}
    columns = [*feature_names(kept.columns), "boxes", "reason"]

    def step_inputs(step: int) -> Inputs:
        chunks = slots.at(step)
        rows = [np.array([number[path] for path in chunk.pictures], int) for chunk in chunks]
        futures = [kept.read(name, some) for some in rows if len(some) for name in columns]
        found = iter(wait(*futures, doing=f"read {kept.path}"))
        parts: dict[str, list[np.ndarray]] = {name: [] for name in columns}
        for some in rows:
            for name in columns:
                column = kept.columns[name]
                part = np.zeros((slots.distinct, *column.tail), kept.dtype(name))
                if len(some):
                    part[: len(some)] = next(found)
                parts[name].append(part)
        features = assemble({name: np.concatenate(parts[name]) for name in columns})
        seen = [
            Seen(chunk.query, chunk.reference, boxes, decode_text(reasons))
            for chunk, boxes, reasons in zip(chunks, parts["boxes"], parts["reason"], strict=True)
        ]
        return Inputs({"features": features, **slots.padded(chunks)}, seen)

    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    return iter(grain.MapDataset.range(len(share)).map(step_inputs).to_iter_dataset(ahead))
