"""Figures of a run: mean curves of all methods, and maps of the first cases."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from fam_jax import plot
from fam_jax.evaluate.cases import Batch

_SIDE = 160  # pixels of a picture at least
_WRAP = 12  # columns of examples at most
_LONG = 16  # letters of a name that fit on a picture
_DASHED = ("random", "centre", "activation-sum", "eigen-cam")


def curves(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """The mean similarity along deletion and insertion, a line a method; baselines dashed."""
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    colours = colormaps["turbo"](np.linspace(0.02, 0.95, len(arrays)))
    for ax, kind in zip(axes, ("deletion", "insertion"), strict=True):
        for (name, curves), colour in zip(arrays.items(), colours, strict=True):
            way = np.linspace(0, 1, len(curves[kind]))
            style = "--" if name in _DASHED else "-"
            ax.plot(way, curves[kind], style, color=colour, linewidth=1.4, label=name)
        ax.set_title(f"{kind}: the {'lower' if kind == 'deletion' else 'higher'}, the better")
        ax.set_xlabel("share of the pixels")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("mean similarity to the reference")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def examples(cases: Sequence[Batch], maps: Mapping[str, np.ndarray]) -> Figure:
    """Cases of one each, a row each: picture, reference where it is one, every method's map."""
    rows, captions = [], []
    for start in range(0, len(maps), _WRAP):
        some = list(maps)[start : start + _WRAP]
        for i, case in enumerate(cases):
            picture = _picture(case.pixels[0])
            others = [] if case.others is None else [_picture(_grey_levels(case.others[0]))]
            overlays = [plot.overlay(picture, np.maximum(maps[name][i], 0)) for name in some]
            rows.append([picture, *others, *overlays])
            on_lines = ["-\n".join(n.rsplit("-", 1)) if len(n) > _LONG else n for n in some]
            columns = ["reference", *on_lines] if others else on_lines
            captions.append([case.names[0], *(columns if i == 0 else [""] * len(columns))])
    return plot.grid_figure(rows, captions=captions, cell=1.6)


def _picture(pixels: np.ndarray) -> Image.Image:
    """Large enough to see, square cells of the network's own pixels."""
    image = Image.fromarray(np.squeeze(pixels)).convert("RGB")
    return ImageOps.scale(image, -(-_SIDE // min(image.size)), Image.Resampling.NEAREST)


def _grey_levels(image: np.ndarray) -> np.ndarray:
    """A network's input as grey levels: what its normalisation did is undone up to range."""
    low, high = image.min(), image.max()
    return (255 * (image - low) / (high - low if high > low else 1)).astype(np.uint8)
