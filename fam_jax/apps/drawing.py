"""The overlays and figures of `fam-jax explain`."""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fam_jax import plot

_SIDE = 256, 512  # pixels of the shorter side of an overlay: at least, at most
_ROLES = "query", "reference"
_LONGEST = 60  # letters of a sentence in the title of a figure


def pairs(
    stage: Path,
    names: Sequence[str],
    views: Sequence[Image.Image],
    out: Mapping[str, np.ndarray],
    title: str,
    *,
    signed: bool,
) -> None:
    """Write both overlays and a figure for the query, the first picture, with each of the others.

    Of `signed` maps the negative part, evidence for the background, is not drawn.
    """
    maps = (_shown(out[f"{role}_maps"], signed) for role in _ROLES)
    for i, both in enumerate(zip(*maps, strict=True)):
        seen, end = (views[0], views[i + 1]), _end(i, out)
        for role, view, map_ in zip(_ROLES, seen, both, strict=True):
            Image.fromarray(plot.overlay(view, map_)).save(stage / f"{role}{end}.png")
        figure = plot.pair_figure(
            *seen, *both, score=float(out["scores"][i]), title=title, names=(names[0], names[i + 1])
        )
        figure.savefig(stage / f"pair{end}.png")


def sentences(
    stage: Path,
    name: str,
    view: Image.Image,
    texts: Sequence[str],
    out: Mapping[str, np.ndarray],
    title: str,
    *,
    signed: bool,
) -> None:
    """Write an overlay and a figure for the picture with each of the sentences."""
    for i, map_ in enumerate(_shown(out["query_maps"], signed)):
        pixels = plot.overlay(view, map_)
        Image.fromarray(pixels).save(stage / f"query{_end(i, out)}.png")
        figure = plot.grid_figure(
            [[view, pixels]],
            captions=[[name, f"{title} {out['scores'][i]:.3f}"]],
            title=_plain(textwrap.shorten(texts[i], _LONGEST, placeholder=' ..."')),
            colorbar=True,
        )
        with warnings.catch_warnings():
            # letters that matplotlib's font lacks become boxes; the manifest has them
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure.savefig(stage / f"text{_end(i, out)}.png")


def display(preprocess: Any, picture: Image.Image) -> Image.Image:
    """What the network sees of the picture, from the picture's own pixels."""
    box = preprocess.region(picture.size)
    width, height = box[2] - box[0], box[3] - box[1]
    shorter = min(width, height)
    scale = min(max(shorter, _SIDE[0]), _SIDE[1]) / shorter
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return picture.resize(size, Image.Resampling.BICUBIC, box=box)


def _shown(maps: np.ndarray, signed: bool) -> np.ndarray:
    return np.maximum(maps, 0) if signed else maps


def _end(i: int, out: Mapping[str, np.ndarray]) -> str:
    """Of the name of a file: a number, where there are several."""
    return f"-{i + 1}" if len(out["scores"]) > 1 else ""


def _plain(sentence: str) -> str:
    """The sentence as matplotlib must have it: what stands between two dollars is a formula."""
    return sentence.replace("$", r"\$")
