"""Each picture once: its features, or its embedding, in a group of the store, a row a picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from fam_jax._core.encoding import Encoder
from fam_jax._core.features import Features
from fam_jax.bulk import cluster, loading
from fam_jax.bulk.drive import Inputs, Progress, drive
from fam_jax.bulk.programs import Spread, encode_chunk
from fam_jax.bulk.share import Share, SharePaths
from fam_jax.bulk.store import INVALID, STATUS, VALID, Column, Group, encode_text


def columns(encode: Encoder, load: loading.Load, batch: int, keep: str) -> dict[str, Column]:
    """The arrays of the group."""
    images = jax.ShapeDtypeStruct((batch, *load.shape), load.dtype)
    made = jax.eval_shape(partial(encode_chunk, keep=keep), encode, {"images": images})
    # Features are large, are read often, and hardly shrink.
    arrays = {
        name: Column(str(x.dtype), x.shape[1:], compress=keep != "features")
        for name, x in made.items()
    }
    return arrays | STATUS | {"boxes": Column("float32", (4,))}


def as_features(encode: Encoder, load: loading.Load, arrays: Mapping[str, Any]) -> Features:
    """The features whose arrays were kept."""
    images = jax.ShapeDtypeStruct((1, *load.shape), load.dtype)
    structure = jax.tree.structure(jax.eval_shape(encode.features, images))
    return jax.tree.unflatten(structure, [arrays[name] for name in feature_names(arrays)])


def feature_names(arrays: Mapping[str, Any]) -> list[str]:
    """Which of a group's arrays are features, in their order."""
    return [name for name in arrays if name.startswith("feature")]


def encode_pictures(
    group: Group,
    paths: Sequence[str],
    encode: Encoder,
    load: loading.Load,
    *,
    keep: str,
    workers: int = 0,
    on_step: Callable[[Progress], None] | None = None,
) -> Progress:
    """Fill the group's rows that are not there yet.

    Args:
        group: with `columns`; it may have more rows than there are paths.
        paths: a picture for each row.
        encode: from `fam_jax.capture`.
        load: a path -> an input of the network.
        keep: "features" or "embeddings".
        workers: see `loading.batches`.
        on_step: see `drive`.
    """
    (batch,) = group.chunk_shape
    spread = Spread(partial(encode_chunk, keep=keep), encode, jax.devices())
    missing = todo(group)
    share = Share(missing[missing * batch < len(paths)], spread)

    def inputs() -> Iterator[Inputs]:
        wanted = SharePaths(share, batch, partial(_rows, paths, batch))
        for loaded in loading.batches(load, wanted, len(spread.local) * batch, workers):
            boxes = loaded["box"].reshape(-1, batch, 4)
            reasons = loaded["reason"].reshape(-1, batch)
            yield Inputs({"images": loaded["image"]}, list(zip(boxes, reasons, strict=True)))

    def collect(chunk: int, host: Any, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        n = group.rows(chunk)
        boxes, reasons = (x[:n] for x in host)
        bad = reasons != ""
        arrays = {name: np.where(_like(bad, x[:n]), 0, x[:n]).astype(x.dtype)
                  for name, x in found.items()}  # fmt: skip
        return arrays | {
            "boxes": boxes,
            "reason": encode_text(reasons.tolist()),
            "status": np.where(bad, INVALID, VALID).astype(np.uint8),
        }

    return drive("pictures", len(paths), group, share, inputs(), spread, collect, on_step)


def todo(group: Group) -> np.ndarray:
    """The chunks that are not written, the same in every process."""
    done = cluster.first(group.done, np.zeros(len(group), bool))
    return np.flatnonzero(~done)


def _like(flags: np.ndarray, array: np.ndarray) -> np.ndarray:
    return flags.reshape(-1, *[1] * (array.ndim - 1))


def _rows(paths: Sequence[str], batch: int, chunk: int) -> Sequence[str]:
    return paths[chunk * batch : (chunk + 1) * batch]
