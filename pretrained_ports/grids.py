"""The grid of a vision transformer's positions, and whose way to fit them to another one."""

import re
from dataclasses import replace

from pretrained_ports.catalog.entry import Entry
from pretrained_ports.checkpoints.dialects import DIALECTS, NATIVE
from pretrained_ports.checkpoints.readers import Checkpoint, CheckpointError
from pretrained_ports.checkpoints.report import Report
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import PROJECTS

# Of a misfit: as wide as the model's positions, but not as many.
_OTHER_COUNT = re.compile(r"gives \[1, \d+, (\d+)\], pos_embed is \[1, \d+, \1\]")


def said_grid(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """The grid in the header of a converted file."""
    said = checkpoint.metadata.get("grid")
    if said is None or checkpoint.metadata.get("dialect") != NATIVE.name:
        return None
    rows, _, columns = said.partition(" ")
    if not (rows.isdecimal() and columns.isdecimal() and len(said) < 12):
        raise CheckpointError(
            f"{checkpoint.path}: its header has a grid of {said[:40]!r}; expected rows and columns"
        )
    return int(rows), int(columns)


def with_hint(error: CheckpointError, grid: tuple[int, int] | None) -> CheckpointError:
    """A misfit, with a line on the grid where positions of another number are amiss."""
    if not _OTHER_COUNT.search(str(error)):
        return error
    hint = "may be on a grid that is no square: grid= (--grid)"
    if grid is not None:
        hint = f"are not those of a grid of {grid[0]} x {grid[1]} patches"
    return CheckpointError(f"{error}\nits positions {hint}")


def with_grid_noted(
    report: Report, model: VisionTransformer, row: Entry, grid: tuple[int, int] | None
) -> Report:
    """The report, with a line where the grid is a guess; CheckpointError if it is not `grid`."""
    rows, columns = taken = model.variant.rows_columns
    if grid is not None and taken != grid:
        positions = model.variant.positioned + rows * columns
        raise CheckpointError(
            f"{report.source}: its {positions} positions are not those of a grid of {grid[0]} x "
            f"{grid[1]} patches"
        )
    if grid is not None or taken == row.build.args[0].rows_columns:
        return report
    guess = (
        f"its {rows * columns} positions are taken for a square of {rows} x {columns} patches, "
        "which the file does not say: grid= (--grid)"
    )
    return replace(report, notes=(*report.notes, guess))


def project(checkpoint: Checkpoint, report: Report) -> str:
    """Whose positions a file's are: as its header says, if it is one of ours, or its names."""
    table = DIALECTS[report.dialect]
    if table is not NATIVE:
        return table.positions
    said = checkpoint.metadata.get("positions", table.positions)
    if said not in PROJECTS:
        raise CheckpointError(
            f"{checkpoint.path}: its header has positions of {said!r}; known are "
            f"{', '.join(PROJECTS)}"
        )
    return said
