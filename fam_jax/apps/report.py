"""`fam-jax report`: a page of a store's pairs."""

from typing import Annotated

import typer

from fam_jax._core.brief import legible
from fam_jax.apps import options


def report(
    store: Annotated[str, typer.Argument(metavar="STORE", help="From fam-jax map.")],
    limit: Annotated[int, typer.Option(help="At most so many pairs.")] = 1000,
    order: Annotated[
        str, typer.Option(help="Which first: store, highest or lowest (score).")
    ] = "store",
    partial: options.Partial = False,
    output: options.Output = "fam-jax-report",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write a page of a store's pairs: pictures, maps behind a slider, sorted and filtered."""
    from fam_jax import bulk
    from fam_jax.apps import jobs
    from fam_jax.report import write

    talk = jobs.output(quiet, as_json)
    pairs = bulk.open_store(store)
    page = write(pairs, output, limit=limit, order=order, overwrite=overwrite, partial=partial)
    lines = jobs.unfinished(store, pairs.status())
    talk.say(*lines)
    talk.say(legible(page[0]))
    talk.result(store=store, notes=lines, files=[str(file) for file in page])
