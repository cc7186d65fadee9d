"""Queries, their nearest pictures in an index, and why: every picture encoded once."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax import Array
from PIL import Image

from fam_jax._core.brief import legible, one_line
from fam_jax._core.checks import check_count
from fam_jax._core.chunks import map_batches
from fam_jax._core.encoder import Encoder
from fam_jax._core.features import Features
from fam_jax._core.similarity import Margin
from fam_jax.bulk import _tables
from fam_jax.bulk._features import FEATURES, EncodedPictures
from fam_jax.bulk._index import Index
from fam_jax.bulk._pairs import TablePairs
from fam_jax.bulk._pictures import PictureLoader
from fam_jax.bulk._run import Summary, run_job
from fam_jax.bulk._settings import barrier, digest, on_first_process
from fam_jax.bulk._steps import Progress
from fam_jax.bulk._zarr import absolute, decode_text
from fam_jax.io.pictures import Reader, reading
from fam_jax.methods import Method, fam
from fam_jax.methods.method import as_method


class Retrieval(NamedTuple):
    """The hits of every query.

    Attributes:
        scores: similarities [q, k], falling; for a margin, those that it takes a mean off.
        rows: of the index, [q, k].
        summary: of the maps: q k pairs, the hits of the first query first.
        queries: those that could be read.
        left_out: why others could not, by their paths.
    """

    scores: np.ndarray
    rows: np.ndarray
    summary: Summary
    queries: list[str]
    left_out: dict[str, str]

    __repr__ = one_line


def retrieve(
    encode: Encoder,
    queries: Sequence[str | os.PathLike],
    index: Index,
    store: str | os.PathLike,
    *,
    top: int,
    preprocess: Callable[[Image.Image], np.ndarray],
    method: Method | Callable | None = None,
    batch: int = 32,
    size: int | None = None,
    dtype: str = "float16",
    reader: Reader | None = None,
    about: Mapping[str, Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Retrieval:
    """Find each query's nearest pictures, exactly, and explain every hit on both sides.

    Queries and hits are encoded once each; the index holds the embeddings of all others. A row
    of the store is a hit, its label the rank, its id the query's number and the rank.

    Arguments as `run`, with the network of the index; `queries` are paths, `index` is from
    `open_index`, `top` are the hits of a query, and similarity is that of the method. A query that
    cannot be read is left out. In a job of several processes all call this with the same arguments;
    features then lie beside the store until the maps are there.

    Raises:
        ValueError: the index is of another network, or no query can be read.
    """
    check_count("batch", batch)
    if digest(encode) != index.settings["parameters_sha256"]:
        raise ValueError(
            f"{legible(index.path)} was made with another network, or with other weights"
        )
    method = fam() if method is None else as_method(method)
    asked = list(dict.fromkeys(_tables.as_paths(queries)))
    with _scratch(store) as scratch, reading():
        # Rows of the queries first, then room for their hits; each in whole chunks.
        padded = asked + [""] * (-len(asked) % batch)
        load = PictureLoader(preprocess, reader)
        kept = EncodedPictures(encode, load, batch, FEATURES)
        kept.create(scratch, len(padded) + len(asked) * top)
        kept.fill(padded)
        barrier("queries")
        reasons = decode_text(kept.group.read("reason", slice(0, len(asked))))
        left_out = {q: reason for q, reason in zip(asked, reasons, strict=True) if reason}
        if len(left_out) == len(asked):
            raise ValueError("; ".join(left_out.values()))
        embeddings = map_batches(
            partial(_embeddings, encode), lambda rows: kept.read(rows)[0], len(asked), batch
        )
        good = [i for i, query in enumerate(asked) if query not in left_out]
        asked, embeddings = [asked[i] for i in good], embeddings[good]
        # What a margin takes off is the same for all pictures: it changes no rank.
        similarity = method.similarity
        ranked = similarity.similarity if isinstance(similarity, Margin) else similarity
        scores, hit_rows = index.search(embeddings, top, ranked)
        hits = [[index.pictures[row] for row in rows] for rows in hit_rows]
        new = dict.fromkeys(path for paths in hits for path in paths if path not in set(padded))
        kept.fill([*padded, *new])
        barrier("hits")
        pairs = [
            {"query": query, "reference": hit, "id": f"{i}.{rank}", "label": f"rank {rank}"}
            for i, (query, paths) in enumerate(zip(asked, hits, strict=True), start=1)
            for rank, hit in enumerate(paths, start=1)
        ]
        once = not method.needs_images
        summary = run_job(
            encode,
            method,
            TablePairs(pairs, batch),
            store,
            load,
            size=size,
            dtype=dtype,
            once=once,
            about=about,
            on_step=on_step,
            kept=kept if once else None,
        )
    return Retrieval(scores, hit_rows, summary, asked, left_out)


@contextmanager
def _scratch(store: str | os.PathLike) -> Iterator[str]:
    """A folder for features, empty at the start, gone at the end, which all processes can reach."""
    if jax.process_count() == 1:
        with TemporaryDirectory(prefix="fam-jax-") as folder:
            yield str(Path(folder) / FEATURES)
        return
    folder = epath.Path(f"{absolute(store)}.{FEATURES}")
    clear = partial(on_first_process, lambda: folder.rmtree(missing_ok=True))
    clear()  # of a job that was killed
    yield str(folder)
    clear()


@jax.jit
def _embeddings(encode: Encoder, features: Features) -> Array:
    return encode.from_features(features).embeddings
