"""Chunks of pairs: what their program starts from, and what of its results is stored."""

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

import grain
import numpy as np

from fam_jax.bulk._features import EncodedPictures
from fam_jax.bulk._pairs import PairChunk, Pairs
from fam_jax.bulk._pictures import Loader, StepInputs, load_pictures
from fam_jax.bulk._steps import chunk_arrays
from fam_jax.bulk._zarr import Group

_SIDES = ("query", "reference")


def picture_inputs(
    chunks: np.ndarray, pairs: Pairs, load: Loader, workers: int
) -> Iterator[StepInputs]:
    """Every chunk's pictures, each decoded once, and its pairs as rows of them."""
    paths = partial(_pictures, pairs)
    steps = load_pictures(load, chunks, pairs.max_pictures, paths, workers)
    for step, inputs in zip(chunks, steps, strict=True):
        yield _with_pairs(inputs, _pair_chunks(step, pairs), pairs)


def _pictures(pairs: Pairs, chunk: int) -> list[str]:
    return pairs.chunk(chunk).pictures


def feature_inputs(chunks: np.ndarray, pairs: Pairs, kept: EncodedPictures) -> Iterator[StepInputs]:
    """Every chunk's pairs, and what was kept of its pictures."""

    def read(step: int) -> StepInputs:
        parts = _pair_chunks(chunks[step], pairs)
        rows = [_resized([kept.rows[p] for p in x.pictures], pairs.max_pictures) for x in parts]
        features, boxes, reasons = kept.read(np.concatenate(rows))
        shape = len(parts), pairs.max_pictures
        host = zip(boxes.reshape(*shape, 4), np.reshape(reasons, shape), strict=True)
        return _with_pairs(StepInputs({"features": features}, list(host)), parts, pairs)

    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    return iter(grain.MapDataset.range(len(chunks)).map(read).to_iter_dataset(ahead))


def _pair_chunks(chunks: np.ndarray, pairs: Pairs) -> list[PairChunk]:
    return [pairs.chunk(int(chunk)) if chunk >= 0 else PairChunk.of([], []) for chunk in chunks]


def _resized(rows: Any, size: int) -> np.ndarray:
    """Rows filled up to a chunk's by repeating them; by the first one where there are none."""
    return np.resize(np.asarray(rows, np.int32), size)


def _with_pairs(inputs: StepInputs, parts: list[PairChunk], pairs: Pairs) -> StepInputs:
    """The pairs of a step beside its pictures, on the devices and on the host."""
    size = prod(pairs.chunk_shape)
    rows = {
        side: np.concatenate([_resized(getattr(part, side), size) for part in parts])
        for side in _SIDES
    }
    host = [(part, *info) for part, info in zip(parts, inputs.host, strict=True)]
    return StepInputs(inputs.device | rows, host)


def collect_chunk(
    group: Group, chunk: int, info: Any, result: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The group's arrays of a chunk: maps where there are any, else the reason."""
    pairs, boxes, unread = info
    pictures = np.stack([pairs.query, pairs.reference], axis=1)
    reasons = [_reason(unread[pair], result, row) for row, pair in enumerate(pictures)]
    arrays = chunk_arrays(group, result, np.any(unread[pictures] != "", axis=1), reasons)
    return arrays | {"boxes": boxes[pictures]}


def _reason(unread: np.ndarray, result: dict[str, np.ndarray], row: int) -> str:
    """Why a pair has no maps; "" if it has."""
    for side, reason in zip(_SIDES, unread, strict=True):
        if reason:
            return f"{side}: {reason}"
    if result["valid"][row]:
        return ""
    for flag, problem in (("finite", "is not finite"), ("nonzero", "is zero")):
        for side, holds in zip(_SIDES, result[flag][row], strict=True):
            if not holds:
                return f"the embedding of the {side} {problem}"
    return "no evidence at this layer"
