"""`fam-jax convert`: a checkpoint of another project as a `.safetensors` file."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from fam_jax._core.brief import legible
from fam_jax.apps import network, options
from fam_jax.apps.output import Output


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint in any dialect.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors file to write.")],
    model: options.Model = None,
    dialect: Annotated[str, typer.Option(help="The names in it: auto, timm, ...")] = "auto",
    head: options.Head = "drop",
    positions: Annotated[
        str,
        typer.Option(
            help="Whose way a vision transformer's positions are fitted to other sizes: auto (by "
            "the names in the file), authors, timm or transformers."
        ),
    ] = "auto",
    entry: options.Entry = None,
    grid: options.Grid = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Turn a PyTorch checkpoint into a file that loads without torch; account for every tensor.

    Without --model, the backbone is found from the shapes of the tensors.
    """
    from pretrained_ports.conversion import convert_file

    network.check(head)
    keep = cast(Literal["drop", "keep"], head)
    backbone = convert_file(
        source, target, model, dialect, overwrite, keep, positions=positions, entry=entry, grid=grid
    )
    report = backbone.report
    assert report is not None
    talk = Output(quiet, as_json)
    talk.say(*report.full().split("\n"), f"wrote {legible(target)} ({backbone.name})")
    talk.result(
        model=backbone.name,
        dialect=report.dialect,
        used=dict(report.used),
        ignored=dict(report.ignored),
        files=[str(target)],
    )
