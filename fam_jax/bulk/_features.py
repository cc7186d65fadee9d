"""Each picture once: its features, or its embedding, in a group of the store, a row a picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from fam_jax._core.encoder import Encoder
from fam_jax._core.features import Features
from fam_jax.bulk._pictures import PictureLoader, load_batches
from fam_jax.bulk._programs import DeviceProgram, encode_chunk
from fam_jax.bulk._settings import on_first_process
from fam_jax.bulk._steps import ChunkSchedule, Progress, ScheduledPictures, StepInputs, run_steps
from fam_jax.bulk._zarr import STATUS_COLUMNS, Column, Group, encode_text
from fam_jax.store import INVALID, VALID


def picture_columns(
    encode: Encoder, load: PictureLoader, batch: int, keep: str
) -> dict[str, Column]:
    """The arrays of a group that holds "features" or "embeddings", a row a picture."""
    program = partial(encode_chunk, keep=keep)
    outputs = jax.eval_shape(program, encode, {"images": load.batch_shape(batch)})
    # Features are large, are read often, and hardly shrink.
    columns = {
        name: Column(str(x.dtype), x.shape[1:], compress=keep != "features")
        for name, x in outputs.items()
    }
    return columns | STATUS_COLUMNS | {"boxes": Column("float32", (4,))}


def as_features(encode: Encoder, load: PictureLoader, arrays: Mapping[str, Any]) -> Features:
    """The features whose arrays were kept."""
    structure = jax.tree.structure(jax.eval_shape(encode.features, load.batch_shape(1)))
    return jax.tree.unflatten(structure, [arrays[name] for name in feature_names(arrays)])


def feature_names(arrays: Mapping[str, Any]) -> list[str]:
    """Which of a group's arrays are features, in their order."""
    return [name for name in arrays if name.startswith("feature")]


def create_group(
    path: str, shape: tuple[int, ...], chunk_shape: tuple[int, ...], columns: dict[str, Column]
) -> Group:
    """A group to be written; one process makes its arrays, all open them."""
    create = partial(Group, path, shape, chunk_shape, columns, write=True)
    on_first_process(create)
    return create()


def missing_chunks(group: Group) -> np.ndarray:
    """The chunks that are not written, the same in every process."""
    written = on_first_process(group.written, np.zeros(len(group), bool))
    return np.flatnonzero(~written)


def encode_pictures(
    group: Group,
    paths: Sequence[str],
    encode: Encoder,
    load: PictureLoader,
    *,
    keep: str,
    workers: int = 0,
    on_step: Callable[[Progress], None] | None = None,
) -> Progress:
    """Fill the group's rows that are not there yet.

    Args:
        group: with `picture_columns`; it may have more rows than there are paths.
        paths: a picture for each row.
        encode: from `fam_jax.capture`.
        load: a path -> an input of the network.
        keep: "features" or "embeddings".
    """
    (batch,) = group.chunk_shape
    program = DeviceProgram(partial(encode_chunk, keep=keep), encode, jax.devices())
    missing = missing_chunks(group)
    schedule = ChunkSchedule(missing[missing * batch < len(paths)], program)

    inputs = _inputs(schedule, paths, batch, load, workers)
    collect = partial(_collect, group)
    return run_steps("pictures", len(paths), group, schedule, inputs, program, collect, on_step)


def _inputs(
    schedule: ChunkSchedule, paths: Sequence[str], batch: int, load: PictureLoader, workers: int
) -> Iterator[StepInputs]:
    scheduled = ScheduledPictures(schedule, batch, partial(_chunk_paths, paths, batch))
    for loaded in load_batches(load, scheduled, len(schedule[0]) * batch, workers):
        boxes = loaded["box"].reshape(-1, batch, 4)
        reasons = loaded["reason"].reshape(-1, batch)
        yield StepInputs({"images": loaded["image"]}, list(zip(boxes, reasons, strict=True)))


def _chunk_paths(paths: Sequence[str], batch: int, chunk: int) -> Sequence[str]:
    return paths[chunk * batch : (chunk + 1) * batch]


def _collect(
    group: Group, chunk: int, host: Any, result: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The group's arrays of a chunk; zeros for what could not be read."""
    n = group.chunk_rows(chunk)
    boxes, reasons = (x[:n] for x in host)
    unread = reasons != ""
    arrays = {name: x[:n].copy() for name, x in result.items()}
    for array in arrays.values():
        array[unread] = 0
    return arrays | {
        "boxes": boxes,
        "reason": encode_text(reasons.tolist()),
        "status": np.where(unread, INVALID, VALID).astype(np.uint8),
    }
