"""`fam-jax map`, `index`, `retrieve`, `report`: the options as a job, and what to say of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax._core.checks import check_choice, check_count
from fam_jax.apps import choices
from fam_jax.bulk import cluster
from fam_jax.bulk.index import index as make_index
from fam_jax.bulk.loading import read
from fam_jax.bulk.pairs import folder_pictures, grid
from fam_jax.bulk.progress import Line
from fam_jax.bulk.read import MapStore, open_store
from fam_jax.bulk.retrieve import retrieve
from fam_jax.bulk.run import run
from fam_jax.bulk.search import open_index
from fam_jax.bulk.store import INVALID
from fam_jax.io import files, pictures

COMPUTE = ("float32", "bfloat16")
INCOMPLETE = 3  # exit code: some rows have no result
_LISTED = 20
Say = Callable[[str], None]


class Network(NamedTuple):
    """A backbone by name, ready to run, and what the store keeps of it."""

    encode: fam_jax.Encoder
    preprocess: Any
    about: dict[str, Any]


def network(model: str, weights: str | None, layer: str | None, compute: str) -> Network:
    """The network that the options name."""
    check_choice("--compute", compute, COMPUTE)
    backbone = choices.backbone(model, weights, jnp.dtype(compute))
    at = layer or backbone.layer
    encode = fam_jax.capture(backbone.model, at=at, tokens=backbone.tokens)
    about: dict[str, Any] = {
        "model": backbone.name,
        "compute": compute,
        "preprocess": repr(backbone.preprocess),
    }
    if str(weights) == choices.RANDOM:
        about["weights"] = choices.RANDOM
    else:
        about["weights_sha256"] = choices.weight_facts(backbone).get("sha256")
    return Network(encode, backbone.preprocess, about)


def map_pairs(
    pairs: str | None,
    *,
    queries: str | None,
    references: str | None,
    out: str,
    model: str,
    weights: str | None,
    layer: str | None,
    method: str,
    similarity: str,
    background: Sequence[Path],
    size: int | None,
    dtype: str,
    batch: int,
    compute: str,
    once: bool,
    workers: int,
    distributed: bool,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    say: Say,
) -> int:
    """Explain pairs into a store; the exit code."""
    choices.check(method, similarity)
    check_count("--batch", batch)
    source = pairs
    if pairs is None and queries is not None and references is not None:
        source = grid(folder_pictures(queries), folder_pictures(references), batch)
    elif pairs is None or queries is not None or references is not None:
        raise ValueError("give a table of PAIRS, or both --queries and --references")
    if method == choices.CONTRASTIVE and not background:
        raise ValueError("--method contrastive needs other pictures: --background FOLDER")
    if distributed:
        cluster.join(coordinator, processes, process)
    net = network(model, weights, layer, compute)
    others = pictures.find(background)
    bank = choices.embed(net.encode, net.preprocess, others)
    about = {**net.about, "similarity": similarity, "method_name": method}
    if others:
        about["background"] = len(others)
    with _watched(distributed) as line:
        summary = run(
            net.encode, source, out, preprocess=net.preprocess,
            method=choices.method_of(method, similarity, bank), batch=batch, size=size,
            dtype=dtype, once=once, workers=workers, about=about, on_step=line,
        )  # fmt: skip
    if jax.process_index() == 0:
        say(f"{out}: {summary.pairs:,} pairs, {summary.invalid:,} of them without maps")
        if summary.invalid:
            _list_invalid(open_store(out), say)
    return INCOMPLETE if summary.invalid else 0


@contextmanager
def _watched(distributed: bool) -> Iterator[Line | None]:
    """The progress line, in the first process; and a word at the end should a host be lost."""
    line = Line() if jax.process_index() == 0 else nullcontext()
    with cluster.last_words() if distributed else nullcontext(), line as shown:
        yield shown


def _list_invalid(store: MapStore, say: Say) -> None:
    bad = np.flatnonzero(store.status() == INVALID)
    for row in store.rows(bad[:_LISTED]):
        say(f"  {row.id}: {row.reason}")
    if len(bad) > _LISTED:
        say(f"  and {len(bad) - _LISTED:,} more: `reason` in the store, where `status` is 2")


def index(
    folder: str,
    *,
    out: str,
    model: str,
    weights: str | None,
    layer: str | None,
    batch: int,
    compute: str,
    workers: int,
    distributed: bool,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    say: Say,
) -> int:
    """Embed a gallery; the exit code."""
    check_count("--batch", batch)
    if distributed:
        cluster.join(coordinator, processes, process)
    gallery = folder_pictures(folder)
    net = network(model, weights, layer, compute)
    with _watched(distributed) as line:
        summary = make_index(
            net.encode, gallery, out, preprocess=net.preprocess, batch=batch, workers=workers,
            about={**net.about, "weights_file": weights}, on_step=line,
        )  # fmt: skip
    if jax.process_index() == 0:
        say(f"{out}: {summary.pictures:,} pictures, {summary.invalid:,} of them not readable")
        for row, reason in list(open_index(out).reasons().items())[:_LISTED]:
            say(f"  {row}: {reason}")
    return INCOMPLETE if summary.invalid else 0


def search(
    queries: Sequence[str],
    *,
    gallery: str,
    top: int,
    report: Path,
    out: str | None,
    method: str,
    similarity: str,
    weights: str | None,
    batch: int,
    overwrite: bool,
    say: Say,
) -> int:
    """Find and explain the nearest pictures of an index; the exit code."""
    from fam_jax.report import write

    choices.check(method, similarity)
    if method == choices.CONTRASTIVE:
        raise ValueError("--method contrastive is for fam-jax map, with a --background")
    files.refuse(report, overwrite=overwrite)
    queries = list(dict.fromkeys(queries))
    found = open_index(gallery)
    made = found.settings
    weights = weights or made.get("weights") or made["weights_file"]
    net = network(made["model"], weights, made["layer"], made["compute"])
    with TemporaryDirectory(prefix="fam-jax-") as scratch:
        store = out or str(Path(scratch) / "maps")
        with Line() as line:
            hits = retrieve(
                net.encode, [str(Path(q).absolute()) if "://" not in q else q for q in queries],
                found, store, top=top, preprocess=net.preprocess, batch=batch, on_step=line,
                method=choices.method_of(method, similarity, None),
                about={**net.about, "similarity": similarity, "method_name": method},
            )  # fmt: skip
        for query, scores, rows in zip(queries, hits.scores, hits.rows, strict=True):
            say(query)
            for rank, (score, row) in enumerate(zip(scores, rows, strict=True), start=1):
                say(f"  {rank:3}  {score:.4f}  {found.pictures[row]}")
        write(open_store(store), report, title="Nearest pictures", overwrite=overwrite, read=read)
    say(f"{report / 'index.html'}")
    return INCOMPLETE if hits.summary.invalid else 0


def report(store: str, *, out: Path, limit: int, order: str, overwrite: bool, say: Say) -> None:
    """Write a store's report."""
    from fam_jax.report import write

    write(open_store(store), out, limit=limit, order=order, overwrite=overwrite, read=read)
    say(f"{out / 'index.html'}")
