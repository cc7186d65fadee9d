"""The overlays and figures of `fam-jax explain`."""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from fam_jax import plot

_SIDE = 256, 512  # pixels of the shorter side of an overlay: at least, at most
_LONGEST = 60  # letters of a sentence in the title of a figure


def pairs(
    stage: Path, names: Sequence[str], views: Sequence[Image.Image], out: Mapping, title: str
) -> None:
    """Write overlays and a figure for the query, the first picture, with each of the others."""
    for i, score in enumerate(out["scores"]):
        both, end = (views[0], views[i + 1]), _end(i, out)
        maps = out["query_maps"][i], out["reference_maps"][i]
        for role, view, heat in zip(("query", "reference"), both, maps, strict=True):
            Image.fromarray(plot.overlay(view, heat)).save(stage / f"{role}{end}.png")
        figure = plot.pair_figure(
            *both, *maps, score=float(score), title=title, names=(names[0], names[i + 1])
        )
        figure.savefig(stage / f"pair{end}.png")


def sentences(
    stage: Path, name: str, view: Image.Image, texts: Sequence[str], out: Mapping, title: str
) -> None:
    """Write an overlay and a figure for the picture with each of the sentences."""
    for i, (heat, score) in enumerate(zip(out["query_maps"], out["scores"], strict=True)):
        pixels, end = plot.overlay(view, heat), _end(i, out)
        Image.fromarray(pixels).save(stage / f"query{end}.png")
        sentence = textwrap.shorten(texts[i], _LONGEST, placeholder=' ..."')
        figure = plot.grid_figure(
            [[view, pixels]],
            captions=[[name, f"{title} {score:.3f}"]],
            title=sentence.replace("$", r"\$"),  # between two, matplotlib reads a formula
            colorbar=True,
        )
        with warnings.catch_warnings():
            # letters that matplotlib's font lacks become boxes; the manifest has them
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure.savefig(stage / f"text{end}.png")


def display(preprocess: Any, picture: Image.Image) -> Image.Image:
    """What the network sees of the picture, from the picture's own pixels."""
    box = preprocess.region(picture.size)
    width, height = box[2] - box[0], box[3] - box[1]
    shorter = min(width, height)
    scale = min(max(shorter, _SIDE[0]), _SIDE[1]) / shorter
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return picture.resize(size, Image.Resampling.BICUBIC, box=box)


def _end(i: int, out: Mapping) -> str:
    """Of the name of a file: a number, where there are several."""
    return f"-{i + 1}" if len(out["scores"]) > 1 else ""
