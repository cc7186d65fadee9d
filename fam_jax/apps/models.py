"""`fam-jax models`: the backbones as a table, or one of them with its layers."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from fam_jax._core.tokens import TokenGrid

_UNLIMITED = 200  # columns where the output is a file or a pipe


def show(name: str | None) -> None:
    """Print every model, or one.

    Raises:
        ValueError: Unknown name.
    """
    console = Console(width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False)
    if name is None:
        _show_all(console)
    else:
        _show_one(console, name)


def _show_all(console: Console) -> None:
    from pretrained_ports import describe

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("name", "family", "parameters", "input", "licence", "weights"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left")
    for row in describe.table():
        table.add_row(
            row.name, row.family, _millions(row.parameters), row.input, row.licence, row.source
        )
    console.print(table)


def _show_one(console: Console, name: str) -> None:
    from pretrained_ports import describe
    from pretrained_ports.catalog import ENTRIES

    row, layers, entry = describe.row(name), describe.layers(name), ENTRIES[name]
    preprocess = entry.preprocess
    resize = "stretched" if preprocess.resize is None else f"shorter side to {preprocess.resize}"
    (default,) = (layer for layer in layers if layer.path == entry.layer)
    facts = {
        "family": row.family,
        "parameters": f"{row.parameters:,}",
        "input": f"{row.input}, {resize}, {preprocess.interpolation}",
        "weights": row.source or "none: pass a file",
        "licence": row.licence or "unknown",
        "dialects": ", ".join(entry.dialects),
        "default layer": f"{default.path}, grid {_grid(default.shape, entry)}",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for fact, value in facts.items():
        table.add_row(fact, value)
    console.print(table)
    console.print()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("layer", "output", "grid"):
        table.add_column(heading)
    for layer in layers:
        mark = " (default)" if layer.path == entry.layer else ""
        table.add_row(
            layer.path + mark, " x ".join(map(str, layer.shape)), _grid(layer.shape, entry)
        )
    console.print(table)


def _grid(shape: tuple[int, ...], entry: Any) -> str:
    """Rows and columns of the map that a layer's output is, if it is one."""
    if len(shape) == 2 and entry.tokens is not None:
        try:
            shape = (*TokenGrid(*entry.tokens).grid(shape[0], entry.preprocess.size), shape[1])
        except ValueError:  # other tokens than those of the images
            return ""
    return f"{shape[0]} x {shape[1]}" if len(shape) == 3 else ""


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M"
