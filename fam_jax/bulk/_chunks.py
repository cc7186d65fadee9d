"""Chunks of pairs: what their program starts from, and what of its results is stored."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import grain
import numpy as np

from fam_jax._core.features import Features
from fam_jax.bulk._features import feature_names
from fam_jax.bulk._pairs import PairChunk, Pairs
from fam_jax.bulk._pictures import PictureLoader, load_batches
from fam_jax.bulk._steps import ChunkSchedule, ScheduledPictures, StepInputs
from fam_jax.bulk._zarr import Group, decode_text, encode_text, wait
from fam_jax.store import INVALID, VALID

_SIDES = ("query", "reference")


class ChunkInfo(NamedTuple):
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


def picture_inputs(
    schedule: ChunkSchedule, pairs: Pairs, load: PictureLoader, workers: int
) -> Iterator[StepInputs]:
    """Every chunk's pictures, each decoded once, and its pairs as rows of them."""
    paths = ScheduledPictures(schedule, pairs.max_pictures, partial(_pictures, pairs))
    step_pictures = len(schedule[0]) * pairs.max_pictures
    for step, batch in enumerate(load_batches(load, paths, step_pictures, workers)):
        chunks = _pair_chunks(schedule, pairs, step)
        boxes = batch["box"].reshape(len(chunks), -1, 4)
        reasons = batch["reason"].reshape(len(chunks), -1)
        infos = [
            ChunkInfo(chunk.query, chunk.reference, box, reason)
            for chunk, box, reason in zip(chunks, boxes, reasons, strict=True)
        ]
        yield StepInputs({"images": batch["image"], **_padded_rows(chunks, pairs)}, infos)


def _pictures(pairs: Pairs, chunk: int) -> list[str]:
    return pairs.chunk(chunk).pictures


def feature_inputs(
    schedule: ChunkSchedule,
    pairs: Pairs,
    features: Group,
    paths: Sequence[str],
    assemble: Callable[[dict[str, np.ndarray]], Features],
) -> Iterator[StepInputs]:
    """Every chunk's pairs, and what was kept of its pictures.

    Args:
        schedule: the chunks.
        pairs: those of all chunks.
        features: what was kept.
        paths: the picture of each of its rows.
        assemble: its arrays -> the features.
    """
    number = {path: i for i, path in enumerate(paths)}
    columns = [*feature_names(features.columns), "boxes", "reason"]

    def read(step: int) -> StepInputs:
        chunks = _pair_chunks(schedule, pairs, step)
        rows = [np.array([number[path] for path in chunk.pictures], int) for chunk in chunks]
        arrays = {name: np.stack(x) for name, x in _read_padded(features, columns, rows, pairs)}
        flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in arrays.items()}
        infos = [
            ChunkInfo(chunk.query, chunk.reference, boxes, decode_text(reasons))
            for chunk, boxes, reasons in zip(chunks, arrays["boxes"], arrays["reason"], strict=True)
        ]
        return StepInputs({"features": assemble(flat), **_padded_rows(chunks, pairs)}, infos)

    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    return iter(grain.MapDataset.range(len(schedule)).map(read).to_iter_dataset(ahead))


def _read_padded(
    group: Group, columns: list[str], rows: list[np.ndarray], pairs: Pairs
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Some rows of some arrays, each list filled up with zeros to a chunk's pictures."""
    futures = [[group.start_read(name, some) for some in rows if len(some)] for name in columns]
    for name, reads in zip(columns, futures, strict=True):
        parts = iter(wait(*reads, doing=f"read {group.path}"))
        padded = [
            np.zeros((pairs.max_pictures, *group.columns[name].tail), group.dtype(name))
            for _ in rows
        ]
        for array, some in zip(padded, rows, strict=True):
            if len(some):
                array[: len(some)] = next(parts)
        yield name, padded


def _pair_chunks(schedule: ChunkSchedule, pairs: Pairs, step: int) -> list[PairChunk]:
    """This process's chunks in a step; empty ones where they run out."""
    empty = PairChunk([], np.zeros(0, np.int32), np.zeros(0, np.int32))
    return [empty if chunk is None else pairs.chunk(chunk) for chunk in schedule[step]]


def _padded_rows(chunks: list[PairChunk], pairs: Pairs) -> dict[str, np.ndarray]:
    """The rows of the chunks' pairs; those that are filled in ask for the first picture."""
    size = prod(pairs.chunk_shape)
    return {
        side: np.concatenate(
            [np.pad(rows, (0, size - len(rows))) for rows in (getattr(c, side) for c in chunks)]
        ).astype(np.int32)
        for side in _SIDES
    }


def collect_chunk(
    group: Group, chunk: int, info: ChunkInfo, result: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The group's arrays of a chunk: maps where there are any, else the reason."""
    n = group.chunk_rows(chunk)
    pictures = np.stack([info.query, info.reference], axis=1)
    reasons = [_reason(info, result, row, pictures[row]) for row in range(n)]
    unread = np.array([any(info.reasons[i] for i in row) for row in pictures])
    arrays = {name: result[name][:n].copy() for name in group.columns if name in result}
    for array in arrays.values():
        array[unread] = np.nan if array.ndim == 1 else 0
    return arrays | {
        "boxes": info.boxes[pictures],
        "reason": encode_text(reasons),
        "status": np.array([INVALID if reason else VALID for reason in reasons], np.uint8),
    }


def _reason(info: ChunkInfo, result: dict[str, np.ndarray], row: int, pictures: np.ndarray) -> str:
    """Why a pair has no maps; "" if it has."""
    for side, picture in zip(_SIDES, pictures, strict=True):
        if reason := str(info.reasons[picture]):
            return f"{side}: {reason}"
    if result["valid"][row]:
        return ""
    for flag, problem in (("finite", "is not finite"), ("nonzero", "is zero")):
        for side, holds in zip(_SIDES, result[flag][row], strict=True):
            if not holds:
                return f"the embedding of the {side} {problem}"
    return "no evidence at this layer"
