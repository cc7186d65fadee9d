"""Queries, their nearest pictures in an index, and why: every picture encoded once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from fam_jax._core.checks import check_count
from fam_jax._core.encoding import Encoder
from fam_jax.bulk.claim import digest
from fam_jax.bulk.drive import Progress
from fam_jax.bulk.encode_once import as_features, columns, encode_pictures, feature_names
from fam_jax.bulk.job import FEATURES, Job, Summary
from fam_jax.bulk.loading import Load, quiet
from fam_jax.bulk.search import Index
from fam_jax.bulk.store import INVALID, Group, decode_text, wait
from fam_jax.methods import Method, PairMethod, fam


class Retrieval(NamedTuple):
    """What was found.

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
    store: Any,
    *,
    top: int,
    preprocess: Callable[[Image.Image], np.ndarray],
    method: Method | PairMethod | None = None,
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
    method = fam() if method is None else method
    queries = list(dict.fromkeys(queries))
    load = Load(preprocess)
    with TemporaryDirectory(prefix="fam-jax-") as scratch, quiet():
        # Rows of the queries first, then room for their hits; each in whole chunks.
        padded = queries + [""] * (-len(queries) % batch)
        group = Group(
            str(Path(scratch) / FEATURES), (len(padded) + len(queries) * top,), (batch,),
            columns(encode, load, batch, FEATURES), write=True,
        )  # fmt: skip

        def fill(paths: Sequence[str]) -> None:
            encode_pictures(group, paths, encode, load, keep=FEATURES)

        fill(padded)
        _refuse_unread(group, queries)
        z = np.concatenate(list(_embeddings(encode, group, load, len(queries))))
        scores, rows = index.search(z, top, method.similarity)
        hits = [[index.pictures[row] for row in found] for found in rows]
        known = set(queries)
        new = [
            path for path in dict.fromkeys(p for found in hits for p in found) if path not in known
        ]
        fill(padded + new)
        pairs = [
            {"query": query, "reference": hit, "id": f"{i + 1}.{rank}", "label": f"rank {rank}"}
            for i, (query, found) in enumerate(zip(queries, hits, strict=True))
            for rank, hit in enumerate(found, start=1)
        ]
        job = Job.of(encode, pairs, store, preprocess, method, batch, size, dtype, True, about)
        summary = job.run(on_step=on_step, kept=(group, padded + new))
    return Retrieval(scores, rows, summary)


def _refuse_unread(group: Group, queries: Sequence[str]) -> None:
    rows = slice(0, len(queries))
    status, reason = wait(
        group.read("status", rows), group.read("reason", rows), doing="read features"
    )
    if bad := np.flatnonzero(status == INVALID).tolist():
        raise ValueError("; ".join(decode_text(reason[bad])))


def _embeddings(encode: Encoder, group: Group, load: Load, rows: int) -> Iterator[np.ndarray]:
    """Of the first rows of a group of features, a chunk at a time."""
    head = jax.jit(lambda encode, features: encode.from_features(features).embeddings)
    names = feature_names(group.columns)
    (batch,) = group.chunk_shape
    for start in range(0, rows, batch):
        values = wait(
            *(group.read(name, slice(start, start + batch)) for name in names),
            doing="read features",
        )
        features = as_features(encode, load, dict(zip(names, values, strict=True)))
        yield np.asarray(head(encode, features), np.float32)[: rows - start]
