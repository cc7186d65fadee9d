"""`fam-jax models`: the backbones as a table, or one of them with its layers."""

from typing import Annotated, Any

import typer

from fam_jax._core.tokens import TokenGrid
from fam_jax.apps import options
from fam_jax.apps.errors import one_line_errors
from fam_jax.apps.output import Output


@one_line_errors
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One model: its layers, and more.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the backbones, or show one: its input, weights, layers and the grid of its maps."""
    talk = Output(as_json=as_json)
    if name is None:
        _show_all(talk)
    else:
        _show_one(talk, name)


def _show_all(talk: Output) -> None:
    from rich.table import Table

    from pretrained_ports.catalog import describe

    rows = describe.table()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("name", "family", "parameters", "input", "licence", "weights"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left")
    for row in rows:
        table.add_row(
            row.name, row.family, _millions(row.parameters), row.input, row.licence, row.source
        )
    talk.show(table)
    talk.result(models=[row._asdict() for row in rows])


def _show_one(talk: Output, name: str) -> None:
    from rich.table import Table

    from pretrained_ports.catalog import ENTRIES, describe

    row, layers, entry = describe.row(name), describe.layers(name), ENTRIES[name]
    preprocess = entry.preprocess
    resize = "stretched" if preprocess.resize is None else f"shorter side to {preprocess.resize}"
    (default,) = (layer for layer in layers if layer.path == entry.layer)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for fact, value in {
        "family": row.family,
        "parameters": f"{row.parameters:,}",
        "input": f"{row.input}, {resize}, {preprocess.interpolation}",
        "weights": row.source or "none: pass a file",
        "licence": row.licence or "unknown",
        "dialects": ", ".join(entry.dialects),
        "default layer": f"{default.path}, grid {_by(_grid(default.shape, entry))}",
    }.items():
        facts.add_row(fact, value)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("layer", "output", "grid"):
        table.add_column(heading)
    for layer in layers:
        mark = " (default)" if layer.path == entry.layer else ""
        grid = _by(_grid(layer.shape, entry))
        table.add_row(layer.path + mark, _by(layer.shape), grid)
    talk.show(facts, "", table)
    talk.result(
        **row._asdict(),
        dialects=entry.dialects,
        layer=entry.layer,
        layers=[
            {"path": layer.path, "output": layer.shape, "grid": _grid(layer.shape, entry)}
            for layer in layers
        ],
    )


def _grid(shape: tuple[int, ...], entry: Any) -> tuple[int, ...] | None:
    """Rows and columns of the map that a layer's output is, if it is one."""
    if len(shape) == 2 and entry.tokens is not None:
        try:
            shape = (*TokenGrid(*entry.tokens).grid(shape[0], entry.preprocess.size), shape[1])
        except ValueError:  # other tokens than those of the images
            return None
    return shape[:2] if len(shape) == 3 else None


def _by(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape or ()))


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M"
