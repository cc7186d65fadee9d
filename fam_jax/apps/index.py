"""`fam-jax index`: the embeddings of a gallery."""

from typing import Annotated

import typer

from fam_jax._core.brief import legible
from fam_jax.apps import choice, network, options, views
from fam_jax.apps.output import INCOMPLETE
from fam_jax.io import pictures


def index(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder of pictures.")],
    model: options.Model = None,
    weights: options.Weights = None,
    entry: options.Entry = None,
    grid: options.Grid = None,
    head: options.Head = "drop",
    layer: options.Layer = None,
    gates: options.Gates = None,
    image_size: options.ImageSize = None,
    fit: options.Fit = None,
    window: options.Window = None,
    page: options.Page = None,
    batch: options.Batch = 32,
    compute: options.Compute = "float32",
    workers: options.Workers = 0,
    retry: options.Retry = True,
    distributed: options.Distributed = False,
    coordinator: options.Coordinator = None,
    processes: options.Processes = None,
    process: options.Process = None,
    output: options.Output = "fam-jax-index",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Embed a gallery, for fam-jax retrieve.

    The same command run again goes on where it was stopped. Exit code 3: some pictures could not
    be read.
    """
    from fam_jax import bulk
    from fam_jax.apps import hosts, jobs

    options.check_fit(fit, job=True)
    options.check_counts(batch=batch, image_size=image_size, workers=workers)
    network.check(head, gates, compute)
    reader = options.reader(window, page)
    if distributed:
        hosts.join(coordinator, processes, process)
    gallery = pictures.scan(folder)
    net, lines = choice.open_network(
        model, weights, head, layer, gates, image_size, compute, entry=entry, grid=grid
    )
    net = views.fitted(net, fit)
    talk = jobs.output(quiet, as_json)
    lines = [*lines, *jobs.skipped([gallery])]
    talk.say(*lines)
    with jobs.watched(quiet, distributed) as line:
        summary = bulk.index(
            net.encode,
            gallery.files,
            output,
            preprocess=net.preprocess,
            batch=batch,
            workers=workers,
            reader=reader,
            retry=retry,
            about={**net.settings(), "weights_file": weights},
            on_step=line,
        )
    readable = f"{summary.pictures:,} pictures, {summary.invalid:,} of them not readable"
    talk.say(f"{legible(output)}: {readable}")
    reasons = bulk.open_index(output).reasons() if summary.invalid and not talk.silent else {}
    reasons = dict(list(reasons.items())[: jobs.LISTED])
    talk.say(*(f"  {row}: {reason}" for row, reason in reasons.items()))
    talk.result(
        index=output,
        model=net.backbone.name,
        notes=lines,
        pictures=summary.pictures,
        invalid=summary.invalid,
        reasons=reasons,
    )
    raise typer.Exit(INCOMPLETE if summary.invalid else 0)
