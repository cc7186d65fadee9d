"""`fam-jax map`: any number of pairs into a store of maps."""

from typing import Annotated

import typer

from fam_jax._core.brief import legible
from fam_jax._core.checks import check_choice
from fam_jax.apps import choice, network, options, views
from fam_jax.apps.output import INCOMPLETE
from fam_jax.io import pictures


def map_(
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
    model: options.Model = None,
    weights: options.Weights = None,
    entry: options.Entry = None,
    grid: options.Grid = None,
    head: options.Head = "drop",
    layer: options.Layer = None,
    gates: options.Gates = None,
    method: options.Method = None,
    similarity: options.Similarity = "cosine",
    background: options.Background = None,
    image_size: options.ImageSize = None,
    fit: options.Fit = None,
    window: options.Window = None,
    page: options.Page = None,
    map_size: options.MapSize = None,
    dtype: Annotated[str, typer.Option(help="Of the maps: float16, uint8 or float32.")] = "float16",
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Encode each picture once in the job; its features go on the disk."
        ),
    ] = False,
    batch: options.Batch = 32,
    compute: options.Compute = "float32",
    workers: options.Workers = 0,
    retry: options.Retry = True,
    distributed: options.Distributed = False,
    coordinator: options.Coordinator = None,
    processes: options.Processes = None,
    process: options.Process = None,
    output: options.Output = "fam-jax-maps",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Explain any number of pairs on both pictures, into a zarr store.

    The same command run again goes on where it was stopped. Exit code 3: some rows have no maps.
    """
    from fam_jax import bulk
    from fam_jax.apps import hosts, jobs
    from fam_jax.bulk._maps import DTYPES

    options.check(method, similarity, background=bool(background))
    options.check_fit(fit, job=True)
    options.check_counts(batch=batch, map_size=map_size, image_size=image_size, workers=workers)
    network.check(head, gates, compute)
    check_choice("--dtype", dtype, DTYPES)
    reader, listings = options.reader(window, page), []
    source = pairs
    if pairs is None and queries is not None and references is not None:
        listings = [pictures.scan(folder) for folder in (queries, references)]
        source = bulk.grid(listings[0].files, listings[1].files, batch)
    elif pairs is None or queries is not None or references is not None:
        raise ValueError("give a table of PAIRS, or both --queries and --references")
    if distributed:
        hosts.join(coordinator, processes, process)
    net, lines = choice.open_network(
        model, weights, head, layer, gates, image_size, compute, entry=entry, grid=grid
    )
    net = views.fitted(net, fit)
    method, why = choice.choose_method(method, net, "the background" if background else "")
    others = net.embed(background or [], reader)
    facts = jobs.background_facts(others)
    told = jobs.explaining(net, method, similarity, others.embeddings, map_size, **facts)
    if once and told["method"].needs_images:
        raise ValueError(
            f"--once keeps features of the pictures, and {method} reads more of the network: leave "
            "it out, or name another --method"
        )
    talk = jobs.output(quiet, as_json)
    lines = [*lines, *why, *jobs.skipped(listings)]
    talk.say(*lines)
    talk.say_left_out(others.left_out)
    with jobs.watched(quiet, distributed) as line:
        summary = bulk.run(
            net.encode,
            source,
            output,
            **told,
            batch=batch,
            dtype=dtype,
            once=once,
            workers=workers,
            reader=reader,
            retry=retry,
            on_step=line,
        )
    talk.say(
        f"{legible(output)}: {summary.pairs:,} pairs, {summary.invalid:,} of them without maps"
    )
    reasons = jobs.reasons(bulk.open_store(output)) if summary.invalid and not talk.silent else {}
    talk.say(*(f"  {legible(name)}: {reason}" for name, reason in reasons.items()))
    if summary.invalid > len(reasons):
        more = summary.invalid - len(reasons)
        talk.say(f"  and {more:,} more: `reason` in the store, where `status` is 2")
    talk.result(
        store=output,
        model=net.backbone.name,
        method=method,
        notes=lines,
        left_out=others.left_out,
        pairs=summary.pairs,
        invalid=summary.invalid,
        reasons=reasons,
    )
    raise typer.Exit(INCOMPLETE if summary.invalid or others.left_out else 0)
