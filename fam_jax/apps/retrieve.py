"""`fam-jax retrieve`: the nearest pictures of an index, and why."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from fam_jax.apps import network, options
from fam_jax.io import files


def retrieve(
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="Pictures.")],
    index: Annotated[str, typer.Option(help="From fam-jax index.")] = "fam-jax-index",
    top: Annotated[int, typer.Option(help="Hits of a query.")] = 5,
    weights: options.Weights = None,
    method: options.Method = "fam",
    similarity: options.Similarity = "cosine",
    background: options.Background = None,
    map_size: options.MapSize = None,
    batch: options.Batch = 32,
    maps: Annotated[
        str | None, typer.Option(help="Keep the maps in this store, as fam-jax map does.")
    ] = None,
    output: options.Output = "fam-jax-report",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Find the nearest pictures of an index, exactly, and show why on both sides of every hit.

    The network is the index's; --weights says where its checkpoint is, if it was moved.
    """
    from fam_jax import bulk
    from fam_jax.apps import jobs
    from fam_jax.report import write

    options.check(method, similarity, background=bool(background))
    options.check_counts(batch=batch, top=top, map_size=map_size)
    files.refuse(Path(output), overwrite=overwrite)
    queries = list(dict.fromkeys(queries))
    gallery = bulk.open_index(index)
    made = gallery.settings
    net = network.open_network(
        made["model"],
        weights or made.get("weights") or made["weights_file"],
        *(made[name] for name in ("head", "layer", "image_size", "compute")),
    )
    told = jobs.explaining(net, method, similarity, background, map_size)
    paths = [str(Path(q).absolute()) if "://" not in q else q for q in queries]
    with TemporaryDirectory(prefix="fam-jax-") as scratch:
        store = maps or str(Path(scratch) / "maps")
        with jobs.watched(quiet) as line:
            hits = bulk.retrieve(
                net.encode, paths, gallery, store, **told, top=top, batch=batch, on_step=line
            )
        page = write(bulk.open_store(store), output, title="Nearest pictures", overwrite=overwrite)
    talk, nearest = jobs.output(quiet, as_json), []
    for query, scores, rows in zip(queries, hits.scores.tolist(), hits.rows, strict=True):
        ranked = [(score, gallery.pictures[row]) for score, row in zip(scores, rows, strict=True)]
        nearest.append({"query": query, "hits": [{"score": s, "picture": p} for s, p in ranked]})
        talk.say(query)
        talk.say(*(f"  {rank:3}  {s:.4f}  {p}" for rank, (s, p) in enumerate(ranked, start=1)))
    talk.say(str(page[0]))
    invalid = hits.summary.invalid
    talk.result(nearest=nearest, invalid=invalid, store=maps, files=[str(file) for file in page])
    raise typer.Exit(jobs.INCOMPLETE if invalid else 0)
