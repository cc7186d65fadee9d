"""The models by name, with trained weights or random ones."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from pretrained_ports.catalog import ENTRIES, find_entry
from pretrained_ports.catalog.entry import Entry, abstract
from pretrained_ports.catalog.vit import with_grid
from pretrained_ports.checkpoints.dialects import DIALECTS, NATIVE, Dialect
from pretrained_ports.checkpoints.errors import one_line
from pretrained_ports.checkpoints.matching import (
    Found,
    Plan,
    fill_from,
    find,
    linear_layer,
    survey,
)
from pretrained_ports.checkpoints.readers import Checkpoint, CheckpointError, read
from pretrained_ports.checkpoints.report import Report, listing
from pretrained_ports.models.network import AnyNetwork
from pretrained_ports.models.projection import LAYER, takes_head, with_head
from pretrained_ports.models.state import Shapes, check_dtype, parameters
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import PROJECTS
from pretrained_ports.preprocess import Preprocess, View
from pretrained_ports.weights.default import default_weights
from pretrained_ports.weights.random import randomise

# Of a misfit: as wide as the model's positions, but not as many.
_OTHER_COUNT = re.compile(r"gives \[1, \d+, (\d+)\], pos_embed is \[1, \d+, \1\]")


@dataclass(frozen=True)
class Backbone:
    """A network with all that is needed to use it.

    Attributes:
        name: Its name in the zoo.
        model: images [b H W c] -> embeddings [b d], a flax.nnx module in evaluation mode.
        layer: Path of the layer to explain by default.
        tokens: How a transformer's tokens lie on the image, as `Entry.tokens`; None for a map.
        preprocess: One picture -> float32 [H W c].
        embedding_dim: d, for pictures of `preprocess.size`.
        source: Where the weights come from, in one line.
        report: What the conversion did with every tensor; None for random weights.
        gates: Whether attention, norms and gated units are to be constants of the pullback from
            the embedding to `layer` ("frozen") or not ("free").
    """

    name: str
    model: AnyNetwork
    layer: str
    tokens: tuple[int, tuple[int, int] | None] | None
    preprocess: Preprocess
    embedding_dim: int
    source: str
    report: Report | None = None
    gates: str = "free"

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, layer={self.layer!r}, source={self.source!r})"

    def open(self, picture: str | PathLike[str] | Any) -> View:
        """The input for a picture in a file (or a picture), and which part of it that shows.

        Raises:
            OSError, ValueError, TypeError: One line: no such file, or no picture.

        Example:
            >>> import numpy as np
            >>> view = create("cifar-resnet20").open(np.zeros((64, 48, 3), np.uint8))
            >>> view.input.shape, view.box
            ((32, 32, 3), (0.0, 8.0, 48.0, 56.0))
        """
        return self.preprocess.open(picture)


def names() -> list[str]:
    """All model names.

    Example:
        >>> "resnet50" in names()
        True
    """
    return list(ENTRIES)


def create(name: str, seed: int = 0, param_dtype: DTypeLike = jnp.float32) -> Backbone:
    """A backbone with random weights.

    Args:
        name: One of `names()`.
        seed: The same seed gives the same weights.
        param_dtype: Type of the parameters, and of the computation.

    Raises:
        ValueError: Unknown name, or float64 without 64-bit mode.

    Example:
        >>> create("cifar-resnet20").embedding_dim
        64
    """
    entry = find_entry(name)
    check_dtype(param_dtype)
    model = abstract(entry, param_dtype)
    randomise(model, seed, param_dtype)
    return bundle(name, entry, model, f"random weights, seed {seed}")


def load(
    name: str,
    weights: str | Path | Checkpoint | None = None,
    dialect: str = "auto",
    param_dtype: DTypeLike = jnp.float32,
    head: Literal["drop", "keep"] = "drop",
    positions: str = "auto",
    entry: str | None = None,
    grid: tuple[int, int] | None = None,
) -> Backbone:
    """A backbone with trained weights.

    Args:
        name: One of `names()`.
        weights: A checkpoint file, or what `read` gave; None takes the default weights, from this
            package or the hub.
        dialect: Names in the checkpoint: a key of `checkpoints.dialects.DIALECTS`, or "auto".
        param_dtype: Type of the parameters, and of the computation.
        head: Self-supervised checkpoints may hold a projection head, those of metric learning a
            linear layer in the classifier's place: "drop" compares what enters it, "keep" what
            leaves it. The similarity that is explained is another one. Kept by ResNet, CIFAR
            ResNet, tiny and the vision transformers.
        positions: How a vision transformer's positions are fitted to pictures of another size than
            it was trained on: as the "authors" do it, "timm" or "transformers". "auto" is what the
            header of a converted file says, transformers for a file with its names, else authors.
        entry: The part of the file that is taken where several fit, by the name of a dictionary or
            a prefix in it: "state_dict_ema", "student". The report names those that fit.
        grid: Rows and columns of the patches that a vision transformer's positions were trained
            on. If None: what the header of a converted file says, else the model's own if the file
            has as many, else a square, which the report says.

    Raises:
        ValueError: Unknown name or dialect, float64 without 64-bit mode, no default weights,
            `positions` or `grid` of a model that has none to resample, or a head of one that takes
            none.
        CheckpointError: The file cannot be had or read, does not fit the model or the grid, has no
            such entry or no head to keep.

    Example:
        >>> import tempfile
        >>> from pretrained_ports.checkpoints.writing import write
        >>> file = Path(tempfile.mkdtemp()) / "mine.safetensors"
        >>> _ = write(file, create("conv4").model, {"architecture": "conv4"})
        >>> load("conv4", weights=file).report.dialect
        'native'
    """
    row = find_entry(name)
    check_dtype(param_dtype)
    _tables(name, row, dialect)  # a wrong one is told of before a file is fetched
    if positions not in ("auto", *PROJECTS):
        raise ValueError(f"positions: expected auto, {', '.join(PROJECTS)}, got {positions!r}")
    source = ""
    if weights is None:
        weights, source = default_weights(name, row)
    checkpoint = weights if isinstance(weights, Checkpoint) else read(weights)
    source = source or str(checkpoint.path)
    if grid is None:
        grid = _said_grid(checkpoint)
    if grid is not None:
        try:
            row = with_grid(row, grid)
        except ValueError as error:
            raise ValueError(f"grid: {name} {error}") from None

    try:
        found = match(name, row, checkpoint, dialect, param_dtype, head, entry)
    except CheckpointError as error:
        if not _OTHER_COUNT.search(str(error)):
            raise
        hint = "may be on a grid that is no square: grid= (--grid)"
        if grid is not None:
            hint = f"are not those of a grid of {grid[0]} x {grid[1]} patches"
        raise CheckpointError(f"{error}\nits positions {hint}") from None
    fill_from(found, param_dtype)
    model, report = found.model, found.report
    if isinstance(model, VisionTransformer):
        report = _with_grid_noted(report, model, row, grid)
        model.positions = _project(checkpoint, report) if positions == "auto" else positions
    elif positions != "auto":
        raise ValueError(f"positions: {name} has none that are fitted to the size of a picture")
    return bundle(name, fitted_row(row, model), model, source, report)


def _tables(name: str, row: Entry, dialect: str) -> list[Dialect]:
    """What "auto" stands for, or the one dialect; ValueError if it is none of the model's."""
    if dialect not in ("auto", *row.dialects):
        raise ValueError(
            f"no dialect {dialect!r} for {name}; there are: auto, {', '.join(row.dialects)}"
        )
    return [DIALECTS[d] for d in (row.dialects if dialect == "auto" else (dialect,))]


def match(
    name: str,
    row: Entry,
    checkpoint: Checkpoint,
    dialect: str = "auto",
    param_dtype: DTypeLike = jnp.float32,
    head: str = "drop",
    entry: str | None = None,
) -> Found:
    """What a checkpoint has for the model of a row, which is not filled yet; arguments of `load`.

    Raises:
        ValueError: Unknown dialect; a head of a model that takes none.
        CheckpointError: The checkpoint does not fit, has no such entry or no head to keep.
    """
    tables = _tables(name, row, dialect)
    model_for = _model_for(row, param_dtype)
    plain = model_for({})
    takes = takes_head(plain)
    if head == "keep" and not (takes or any(map(LAYER.fullmatch, parameters(plain)))):
        raise ValueError(f"head: {name} takes none; its embedding is what the network itself gives")
    found = find(checkpoint, model_for, tables, name, head, entry)
    report, part = found.report, found.part
    if head == "keep":
        if not report.has_head:
            raise CheckpointError(
                f"{checkpoint.path} has no projection head to keep (dialect {report.dialect})"
            )
        _check_head(found, row, name, plain)
    elif takes and (layer := linear_layer(part, DIALECTS[report.dialect])):
        outputs, inputs = part.tensors[f"{layer}.weight"].shape
        report = replace(report, dropped=f"{one_line(layer)} ({inputs} -> {outputs})")
    return found._replace(report=report)


def _check_head(found: Found, row: Entry, name: str, plain: AnyNetwork) -> None:
    """CheckpointError for a head whose layers do not follow on the embedding and each other."""
    try:
        _embedding_dim(row, found.model)
    except (TypeError, ValueError):
        shapes = {
            key: str(list(found.part.tensors[key].shape))
            for key, path in found.report.used.items()
            if LAYER.fullmatch(path)
        }
        raise CheckpointError(
            f"{found.report.source}: its head does not fit embeddings "
            f"[{_embedding_dim(row, plain)}] of {name}: {listing(shapes)}"
        ) from None


def _said_grid(checkpoint: Checkpoint) -> tuple[int, int] | None:
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


def _with_grid_noted(
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


def _project(checkpoint: Checkpoint, report: Report) -> str:
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


def fits(checkpoint: Checkpoint, name: str, plan: Plan) -> bool:
    """Whether a checkpoint, as one table reads it, holds a model's weights and nothing else."""
    return survey(checkpoint, _kept_model_for(find_entry(name)), plan).fits


def _model_for(
    entry: Entry, param_dtype: DTypeLike = jnp.float32
) -> Callable[[Shapes], AnyNetwork]:
    """Makes a row's abstract model: once for all shapes that ask for nothing else."""
    unfitted = cache(lambda: abstract(entry, param_dtype))

    def model_for(shapes: Shapes) -> AnyNetwork:
        row = _fitted(entry, shapes)
        return unfitted() if row.build is entry.build else abstract(row, param_dtype)

    return model_for


_kept_model_for = cache(_model_for)  # every row is asked for every part of a file


def _fitted(entry: Entry, shapes: Shapes) -> Entry:
    """The row for what a checkpoint offers: its sizes, and its projection head if it is kept."""
    row = entry.infer(entry, shapes) if entry.infer else entry
    return replace(row, build=with_head(row.build, shapes))


def fitted_row(row: Entry, model: nnx.Module) -> Entry:
    """The row for a model that was made for a checkpoint."""
    return _fitted(row, {path: array.shape for path, array in parameters(model).items()})


def bundle(
    name: str, entry: Entry, model: AnyNetwork, source: str, report: Report | None = None
) -> Backbone:
    """A model with what its row says of it; the model may be abstract."""
    dim = _embedding_dim(entry, model)
    return Backbone(name, model, entry.layer, entry.tokens, entry.preprocess, dim, source, report)


def _embedding_dim(entry: Entry, model: AnyNetwork) -> int:
    """Of pictures of the row's size; the model is in evaluation mode from here on."""
    model.eval()
    picture = jax.ShapeDtypeStruct(
        (1, *entry.preprocess.size, entry.preprocess.channels), "float32"
    )
    return nnx.eval_shape(lambda model, images: model(images), model, picture).shape[-1]
