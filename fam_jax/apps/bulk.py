"""The commands for large jobs: map, index, retrieve, report."""

from pathlib import Path
from typing import Annotated

import typer

from fam_jax.apps.errors import one_line_errors

bulk = typer.Typer()

Model = Annotated[str, typer.Option(help="A backbone: tiny, resnet50, conv4, ...")]
Weights = Annotated[str | None, typer.Option(help="A checkpoint file for it, or: random.")]
Layer = Annotated[str | None, typer.Option(help="Where maps are taken.")]
Method = Annotated[str, typer.Option(help="As for fam-jax explain.")]
Similarity = Annotated[str, typer.Option(help="cosine, dot or euclidean.")]
Batch = Annotated[int, typer.Option(help="Of a device at a time, and of a file.")]
Compute = Annotated[str, typer.Option(help="float32 or bfloat16.")]
Workers = Annotated[int, typer.Option(help="Processes that read pictures; 0: threads.")]
Distributed = Annotated[
    bool, typer.Option("--distributed", help="Run the same command on every host.")
]
Coordinator = Annotated[
    str | None, typer.Option(help="HOST:PORT of the first, where jax does not find it.")
]
Processes = Annotated[int | None, typer.Option(help="How many there are.")]
Process = Annotated[int | None, typer.Option(help="Which one this is, from 0.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier report.")]


@bulk.command("map")
@one_line_errors
def map_pairs(
    pairs: Annotated[
        str | None,
        typer.Argument(
            metavar="PAIRS",
            help="A .csv, .jsonl or .parquet file: query, reference, perhaps id and label.",
        ),
    ] = None,
    queries: Annotated[
        str | None, typer.Option(help="A folder instead of PAIRS: each of its pictures with")
    ] = None,
    references: Annotated[str | None, typer.Option(help="each of this folder's.")] = None,
    out: Annotated[str, typer.Option(help="The store: a folder or gs://...")] = "fam-jax-maps",
    model: Model = "tiny",
    weights: Weights = None,
    layer: Layer = None,
    method: Method = "fam",
    similarity: Similarity = "cosine",
    background: Annotated[
        list[Path] | None, typer.Option(help="Other pictures, as for fam-jax explain.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the maps in pixels; the layer's grid if not given.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the maps: float16, uint8 or float32.")] = "float16",
    batch: Batch = 32,
    compute: Compute = "float32",
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Encode each picture once in the job; its features go on the disk."
        ),
    ] = False,
    workers: Workers = 0,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process: Process = None,
) -> None:
    """Explain any number of pairs on both pictures, into a zarr store.

    The same command run again goes on where it was stopped. Exit code 3: some rows have no maps.
    """
    from fam_jax.apps import jobs

    code = jobs.map_pairs(
        pairs, queries=queries, references=references, out=out, model=model, weights=weights,
        layer=layer, method=method, similarity=similarity, background=background or [], size=size,
        dtype=dtype, batch=batch, compute=compute, once=once, workers=workers,
        distributed=distributed, coordinator=coordinator, processes=processes, process=process,
        say=typer.echo,
    )  # fmt: skip
    raise typer.Exit(code)


@bulk.command()
@one_line_errors
def index(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder of pictures.")],
    out: Annotated[str, typer.Option(help="The index: a folder or gs://...")] = "fam-jax-index",
    model: Model = "tiny",
    weights: Weights = None,
    layer: Layer = None,
    batch: Batch = 32,
    compute: Compute = "float32",
    workers: Workers = 0,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process: Process = None,
) -> None:
    """Embed a gallery, for fam-jax retrieve.

    The same command run again goes on where it was stopped. Exit code 3: some pictures could not
    be read.
    """
    from fam_jax.apps import jobs

    code = jobs.index(
        folder, out=out, model=model, weights=weights, layer=layer, batch=batch, compute=compute,
        workers=workers, distributed=distributed, coordinator=coordinator, processes=processes,
        process=process, say=typer.echo,
    )  # fmt: skip
    raise typer.Exit(code)


@bulk.command()
@one_line_errors
def retrieve(
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="Pictures.")],
    index: Annotated[str, typer.Option(help="From fam-jax index.")] = "fam-jax-index",
    top: Annotated[int, typer.Option(help="Hits of a query.")] = 5,
    report: Annotated[Path, typer.Option(help="The folder for the page.")] = Path("fam-jax-report"),
    out: Annotated[
        str | None, typer.Option(help="Keep the maps in this store, as fam-jax map does.")
    ] = None,
    method: Method = "fam",
    similarity: Similarity = "cosine",
    weights: Annotated[
        str | None, typer.Option(help="The index's checkpoint file, if it was moved.")
    ] = None,
    batch: Batch = 32,
    overwrite: Overwrite = False,
) -> None:
    """Find the nearest pictures of an index, exactly, and show why on both sides of every hit."""
    from fam_jax.apps import jobs

    code = jobs.search(
        queries, gallery=index, top=top, report=report, out=out, method=method,
        similarity=similarity, weights=weights, batch=batch, overwrite=overwrite, say=typer.echo,
    )  # fmt: skip
    raise typer.Exit(code)


@bulk.command()
@one_line_errors
def report(
    store: Annotated[str, typer.Argument(metavar="STORE", help="From fam-jax map.")],
    out: Annotated[Path, typer.Option(help="The folder for the page.")] = Path("fam-jax-report"),
    limit: Annotated[int, typer.Option(help="At most so many pairs.")] = 1000,
    order: Annotated[
        str, typer.Option(help="Which first: store, highest or lowest (score).")
    ] = "store",
    overwrite: Overwrite = False,
) -> None:
    """Write a page of a store's pairs: pictures, maps behind a slider, sorted and filtered."""
    from fam_jax.apps import jobs

    jobs.report(store, out=out, limit=limit, order=order, overwrite=overwrite, say=typer.echo)
