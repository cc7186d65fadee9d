"""The strip: pairs of pictures in rows, and their maps through training in columns."""

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from fam_jax import plot
from fam_jax.io.arrays import load
from fam_jax.training._flat import flat_map

MAPS = "maps"
PROBE = "probe.npz"
SIDES = ("query", "reference")
_OF_A_STEP = (*(f"{side}_maps" for side in SIDES), "scores", "valid")
CELL, GAP = 120, 3  # pixels


def strip(folder: str | os.PathLike, columns: int = 10) -> Figure:
    """The maps in a `MapLogger`'s folder: a row for each image of each pair, a column a step.

    In the corner of a query's overlays stands the pair's score. Each map is scaled on its own, a
    signed one red above 0 and blue below; one that is not valid is not drawn.

    Args:
        columns: at most so many steps, evenly from the first to the last.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> import fam_jax
        >>> from fam_jax.training import MapLogger, strip
        >>> network = lambda images: fam_jax.tap(images, "itself").mean((1, 2))
        >>> images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
        >>> with MapLogger(tempfile.mkdtemp(), images, images, at="itself", every=1) as logger:
        ...     logger(0, network)
        >>> [label.get_text() for label in strip(logger.folder).axes[0].get_xticklabels()]
        ['', 'step 0']
    """
    folder = Path(folder)
    steps = sorted(steps_in(folder))
    if not steps:
        raise FileNotFoundError(f"the folder {folder} holds no maps of a MapLogger")
    if len(steps) > columns:
        steps = [steps[i] for i in np.linspace(0, len(steps) - 1, columns).round().astype(int)]
    looks = [load(maps_file(folder, step), _OF_A_STEP) for step in steps]
    scores = np.stack([look["scores"] for look in looks], axis=1)
    pictures = [f"{side}_{i}" for i in range(len(scores)) for side in SIDES]
    probe, rows = load(folder / PROBE, pictures), []
    for i in range(len(scores)):
        for side in SIDES:
            picture = probe[f"{side}_{i}"]
            maps = (flat_map(look[f"{side}_maps"][i]) * bool(look["valid"][i]) for look in looks)
            overlays = (plot.overlay(picture, m) for m in maps)
            rows.append(np.concatenate([_cell(x) for x in (picture, *overlays)], axis=1))
    return _drawn(np.concatenate(rows), steps, scores)


def _cell(picture: np.ndarray) -> np.ndarray:
    """A picture amid white, [CELL, CELL, 3]."""
    inside = (CELL - 2 * GAP, CELL - 2 * GAP)
    cell = ImageOps.pad(Image.fromarray(picture), inside, color="white")
    return np.asarray(ImageOps.expand(cell, GAP, "white"))


def _drawn(canvas: np.ndarray, steps: list[int], scores: np.ndarray) -> Figure:
    # One picture in one pair of axes: dozens of axes would take seconds to lay out.
    rows, columns = canvas.shape[0] // CELL, canvas.shape[1] // CELL
    figure = Figure(figsize=(columns + 0.8, rows + 0.5), dpi=CELL, layout="constrained")
    ax = figure.subplots()
    ax.imshow(canvas)
    middle = CELL * (np.arange(max(rows, columns)) + 0.5)
    ax.set_xticks(middle[:columns], ["", *(f"step {step}" for step in steps)], fontsize=8)
    names = [f"{side} {i}" for i in range(len(scores)) for side in SIDES]
    ax.set_yticks(middle[:rows], names, fontsize=8)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.spines[:].set_visible(False)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for (i, j), score in np.ndenumerate(scores):
        # The right upper corner of a query's overlay; the first column holds the pictures.
        place = (CELL * (j + 2) - 2 * GAP, 2 * CELL * i + 2 * GAP)
        ax.text(*place, f"{score:.2f}", fontsize=7, ha="right", va="top", bbox=box)
    return figure


def steps_in(folder: Path) -> list[int]:
    """The steps whose maps a folder holds."""
    return [int(file.stem.partition("-")[2]) for file in (folder / MAPS).glob("step-*.npz")]


def maps_file(folder: Path, step: int) -> Path:
    """Where the maps of a step lie."""
    return folder / MAPS / f"step-{step:08}.npz"
