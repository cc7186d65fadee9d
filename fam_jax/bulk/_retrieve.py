"""Queries, their nearest pictures in an index, and why: every picture encoded once."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from fam_jax._core.checks import check_count
from fam_jax._core.chunks import map_batches
from fam_jax._core.encoder import Encoder
from fam_jax._core.features import Features
from fam_jax.bulk._features import (
    as_features,
    create_group,
    encode_pictures,
    feature_names,
    picture_columns,
)
from fam_jax.bulk._index import Index
from fam_jax.bulk._pictures import PictureLoader
from fam_jax.bulk._run import FEATURES, Job, Summary
from fam_jax.bulk._settings import digest
from fam_jax.bulk._steps import Progress
from fam_jax.bulk._zarr import Group, decode_text, wait
from fam_jax.io.pictures import no_size_warnings
from fam_jax.methods import Method, fam
from fam_jax.methods.method import as_method
from fam_jax.store import INVALID


class Retrieval(NamedTuple):
    """The hits of every query.

    Attributes:
        scores: similarities [q, k], falling.
        rows: of the index, [q, k].
        summary: of the maps: q k pairs, the hits of the first query first.
    """

    scores: np.ndarray
    rows: np.ndarray
    summary: Summary


def retrieve(
    encode: Encoder,
    queries: Sequence[str],
    index: Index,
    store: str | os.PathLike,
    *,
    top: int,
    preprocess: Callable[[Image.Image], np.ndarray],
    method: Method | Callable | None = None,
    batch: int = 32,
    size: int | None = None,
    dtype: str = "float16",
    about: Mapping[str, Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Retrieval:
    """Find each query's nearest pictures, exactly, and explain every hit on both sides.

    Queries and hits are encoded once each; the index holds the embeddings of all others.

    Args:
        encode: what the index was made with.
        queries: paths.
        index: from `open_index`.
        store: where the maps go; a row is a hit, its label the rank, its id the query's number
            and the rank.
        top: hits of a query.
        preprocess: as for `run`, like all that follows.
        method: its similarity decides what is near.
        batch: pairs of a device at a time.
        size: side of the stored maps.
        dtype: of the stored maps.
        about: plain values to be kept with the store.
        on_step: called when a step of the pairs is written.

    Returns:
        `Retrieval`.

    Raises:
        ValueError: one line: the index is of another network, a query cannot be read, top is more
            than there is, the store is of another job.
        OSError: one line: the store cannot be written.
    """
    check_count("batch", batch)
    if digest(encode) != index.settings["parameters_sha256"]:
        raise ValueError(f"{index.path} was made with another network, or with other weights")
    method = fam() if method is None else as_method(method)
    queries = list(dict.fromkeys(queries))
    load = PictureLoader(preprocess)
    with TemporaryDirectory(prefix="fam-jax-") as scratch, no_size_warnings():
        # Rows of the queries first, then room for their hits; each in whole chunks.
        padded = queries + [""] * (-len(queries) % batch)
        path, rows = str(Path(scratch) / FEATURES), len(padded) + len(queries) * top
        columns = picture_columns(encode, load, batch, FEATURES)
        features = create_group(path, (rows,), (batch,), columns)
        encode_pictures(features, padded, encode, load, keep=FEATURES)
        _check_read(features, len(queries))
        embeddings = _embeddings(encode, features, load, len(queries))
        scores, hit_rows = index.search(embeddings, top, method.similarity)
        hits = [[index.pictures[row] for row in rows] for rows in hit_rows]
        new = dict.fromkeys(path for paths in hits for path in paths)
        pictures = padded + [path for path in new if path not in set(queries)]
        encode_pictures(features, pictures, encode, load, keep=FEATURES)
        pairs = [
            {"query": query, "reference": hit, "id": f"{i}.{rank}", "label": f"rank {rank}"}
            for i, (query, paths) in enumerate(zip(queries, hits, strict=True), start=1)
            for rank, hit in enumerate(paths, start=1)
        ]
        once = not method.needs_images
        job = Job.create(encode, pairs, store, preprocess, method, batch, size, dtype, once, about)
        summary = job.run(on_step=on_step, kept=(features, pictures) if once else None)
    return Retrieval(scores, hit_rows, summary)


def _check_read(group: Group, rows: int) -> None:
    """Raise a ValueError that says which of the first rows' pictures could not be read."""
    bad = np.flatnonzero(group.read("status", slice(0, rows)) == INVALID)
    if len(bad):
        raise ValueError("; ".join(decode_text(group.read("reason", (bad,)))))


def _embeddings(encode: Encoder, group: Group, load: PictureLoader, rows: int) -> np.ndarray:
    """Of the first rows of a group of features, a chunk at a time."""
    names = feature_names(group.columns)

    def read(part: slice) -> Features:
        futures = (group.start_read(name, part) for name in names)
        arrays = wait(*futures, doing=f"read {group.path}")
        return as_features(encode, load, dict(zip(names, arrays, strict=True)))

    (batch,) = group.chunk_shape
    head = jax.jit(lambda encode, features: encode.from_features(features).embeddings)
    return map_batches(partial(head, encode), read, rows, batch).astype(np.float32)
