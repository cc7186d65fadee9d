"""`fam-jax models`: the backbones as a table, or one of them with its layers."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fam_jax._core.tokens import TokenGrid
from fam_jax.apps import options
from fam_jax.apps.output import Output

if TYPE_CHECKING:
    from rich.table import Column, Table


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
    from rich.table import Column

    from pretrained_ports.catalog import describe

    rows = describe.table()
    cells = (
        (row.name, row.family, f"{row.parameters / 1e6:.1f} M", row.input, row.licence, row.source)
        for row in rows
    )
    parameters = Column("parameters", justify="right")
    talk.show(_table(cells, "name", "family", parameters, "input", "licence", "weights"))
    talk.result(models=[row._asdict() for row in rows])


def _show_one(talk: Output, name: str) -> None:
    from pretrained_ports.catalog import ENTRIES, describe

    row, entry, preprocess = describe.row(name), ENTRIES[name], ENTRIES[name].preprocess
    resize = "stretched" if preprocess.resize is None else f"shorter side to {preprocess.resize}"
    layers = [
        (layer.path, layer.shape, _grid(layer.shape, entry)) for layer in describe.layers(name)
    ]
    default = next(_by(grid) for path, _, grid in layers if path == entry.layer)
    facts = {
        "family": row.family,
        "parameters": f"{row.parameters:,}",
        "input": f"{row.input}, {resize}, {preprocess.interpolation}",
        "weights": row.source or "none: pass a file",
        "licence": row.licence or "unknown",
        "dialects": ", ".join(entry.dialects),
        "default layer": f"{entry.layer}, grid {default}",
    }
    cells = (
        (path + (" (default)" if path == entry.layer else ""), _by(shape), _by(grid))
        for path, shape, grid in layers
    )
    talk.show(_table(facts.items()), "", _table(cells, "layer", "output", "grid"))
    talk.result(
        **row._asdict(),
        dialects=entry.dialects,
        layer=entry.layer,
        layers=[{"path": path, "output": shape, "grid": grid} for path, shape, grid in layers],
    )


def _table(rows: Iterable[Iterable[str]], *headings: "Column | str") -> "Table":
    """A plain table."""
    from rich.table import Table

    heads = bool(headings)
    table = Table(*headings, box=None, header_style="bold", pad_edge=False, show_header=heads)
    for row in rows:
        table.add_row(*row)
    return table


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
