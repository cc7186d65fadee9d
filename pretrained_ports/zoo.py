"""The models by name, with trained weights or random ones."""

from pathlib import Path
from typing import Literal

import jax.numpy as jnp
from jax.typing import DTypeLike

from pretrained_ports.backbone import Backbone, bundle
from pretrained_ports.catalog import ENTRIES, find_entry
from pretrained_ports.catalog.entry import abstract
from pretrained_ports.catalog.vit import with_grid
from pretrained_ports.checkpoints.matching import fill_from
from pretrained_ports.checkpoints.readers import Checkpoint, CheckpointError, read
from pretrained_ports.fitting import fitted_row, match, tables
from pretrained_ports.grids import project, said_grid, with_grid_noted, with_hint
from pretrained_ports.models.state import check_dtype
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import PROJECTS
from pretrained_ports.weights.default import default_weights
from pretrained_ports.weights.random import randomise


def names() -> list[str]:
    """All model names.

    Examples:
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

    Examples:
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
            linear layer in the classifier's place, or alone beside the network: "drop" compares
            what enters it, "keep" what leaves it. The similarity that is explained is another one.
            Kept by ResNet, CIFAR ResNet, tiny and the vision transformers.
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

    Examples:
        >>> import tempfile
        >>> from pretrained_ports.checkpoints.writing import write
        >>> file = Path(tempfile.mkdtemp()) / "mine.safetensors"
        >>> _ = write(file, create("conv4").model, {"architecture": "conv4"})
        >>> load("conv4", weights=file).report.dialect
        'native'
    """
    row = find_entry(name)
    check_dtype(param_dtype)
    tables(name, row, dialect)  # a wrong one is told of before a file is fetched
    if positions not in ("auto", *PROJECTS):
        raise ValueError(f"positions: expected auto, {', '.join(PROJECTS)}, got {positions!r}")
    source = ""
    if weights is None:
        weights, source = default_weights(name, row)
    checkpoint = weights if isinstance(weights, Checkpoint) else read(weights)
    source = source or str(checkpoint.path)
    if grid is None:
        grid = said_grid(checkpoint)
    if grid is not None:
        try:
            row = with_grid(row, grid)
        except ValueError as error:
            raise ValueError(f"grid: {name} {error}") from None

    try:
        found = match(name, row, checkpoint, dialect, param_dtype, head, entry)
    except CheckpointError as error:
        raise with_hint(error, grid) from None
    fill_from(found, param_dtype)
    model, report = found.model, found.report
    if isinstance(model, VisionTransformer):
        report = with_grid_noted(report, model, row, grid)
        model.positions = project(checkpoint, report) if positions == "auto" else positions
    elif positions != "auto":
        raise ValueError(f"positions: {name} has none that are fitted to the size of a picture")
    return bundle(name, fitted_row(row, model), model, source, report)
