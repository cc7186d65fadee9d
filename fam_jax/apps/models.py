"""`fam-jax models`: the backbones as a table, some of them, or one with its layers."""

import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fam_jax._core.tokens import TokenGrid
from fam_jax.apps import options
from fam_jax.apps.output import Output

if TYPE_CHECKING:
    from pretrained_ports.catalog.describe import Row

_COLUMNS = ("name", "family", "parameters", "input", "licence", "weights")
_GAP = 2  # spaces between columns


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="One model: its layers, and more. Or a family, a part of names, a pattern "
            "('vit-*-384'): those that have it.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the backbones, or show one: its input, weights, layers and the grid of its maps."""
    from pretrained_ports.catalog import ENTRIES, describe, find_entry

    talk = Output(as_json=as_json)
    if name in ENTRIES:
        _show_one(talk, name)
        return
    rows = [row for row in describe.table() if name is None or _has(row, name)]
    if not rows and name is not None:
        find_entry(name)  # says which names are near
    _show(talk, rows)


def _has(row: "Row", wanted: str) -> bool:
    """Whether a family or a part of a name is as wanted; with wildcards, the whole name."""
    wanted, name = wanted.lower(), row.name.lower()
    if {*wanted} & {*"*?["}:
        return fnmatchcase(name, wanted)
    return wanted in name or wanted == row.family.lower()


def _show(talk: Output, rows: "list[Row]") -> None:
    cells = [
        (row.name, row.family, f"{row.parameters / 1e6:.1f} M", row.input, row.licence, row.source)
        for row in rows
    ]
    table = [_COLUMNS, *cells]
    ends = accumulate(max(map(len, column)) + _GAP for column in zip(*table, strict=True))
    shown = max(1, sum(end - _GAP <= _width() for end in ends))
    talk.say(*_lines([row[:shown] for row in table], right=(2,)))
    if left_out := _COLUMNS[shown:]:
        talk.say("", f"{' and '.join(left_out)}: fam-jax models NAME, --json, or a wider window")
    talk.result(models=[row._asdict() for row in rows])


def _show_one(talk: Output, name: str) -> None:
    from pretrained_ports.catalog import ENTRIES, describe

    row, entry, preprocess = describe.row(name), ENTRIES[name], ENTRIES[name].preprocess
    resize = "stretched" if preprocess.resize is None else f"shorter side to {preprocess.resize}"
    layers = [
        (layer.path, layer.shape, grid_of(layer.shape, entry)) for layer in describe.layers(name)
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
    cells = [
        (path + (" (default)" if path == entry.layer else ""), _by(shape), _by(grid))
        for path, shape, grid in layers
    ]
    talk.say(*_lines([*facts.items()]), "", *_lines([("layer", "output", "grid"), *cells]))
    talk.result(
        **row._asdict(),
        dialects=entry.dialects,
        layer=entry.layer,
        layers=[{"path": path, "output": shape, "grid": grid} for path, shape, grid in layers],
    )


def _lines(rows: Sequence[Sequence[str]], right: tuple[int, ...] = ()) -> list[str]:
    """Rows as lines whose columns stand below each other, those of `right` at their right end."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        pads = (str.rjust if i in right else str.ljust for i in range(len(row)))
        cells = (pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True))
        return (" " * _GAP).join(cells).rstrip()

    return [line(row) for row in rows]


def _width() -> int:
    """Columns of the terminal; a file and a pipe have all that are needed."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def grid_of(shape: tuple[int, ...], entry: Any) -> tuple[int, ...] | None:
    """Rows and columns of the map that a layer's output is, if it is one."""
    if len(shape) == 2 and entry.tokens is not None:
        try:
            shape = (*TokenGrid(*entry.tokens).grid(shape[0], entry.preprocess.size), shape[1])
        except ValueError:  # other tokens than those of the images
            return None
    return shape[:2] if len(shape) == 3 else None


def _by(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape or ()))
