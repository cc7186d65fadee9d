"""What `fam-jax explain --text` adds: a sentence's embedding in the place of a picture's."""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jax import Array
from PIL import Image

import fam_jax
from fam_jax import plot

_LONGEST = 60  # letters of a sentence in the title of a figure


def explain(
    encode: fam_jax.Encoder, inputs: np.ndarray, sentences: Array, rule: fam_jax.Method
) -> dict[str, np.ndarray]:
    """The only picture with the embedding of every sentence, as arrays for a file."""
    maps, scores, valid = fam_jax.explain_all(encode, inputs, sentences, rule)
    parts = {"query_maps": maps, "scores": scores, "valid": valid}
    return {name: np.asarray(part[0]) for name, part in parts.items()}


def draw(
    stage: Path,
    query: Path,
    view: Image.Image,
    names: Sequence[str],
    out: Mapping[str, np.ndarray],
    title: str,
    *,
    signed: bool,
) -> None:
    """Write an overlay and a figure for each sentence."""
    for i, (name, map_, score) in enumerate(
        zip(names, out["query_maps"], out["scores"], strict=True), start=1
    ):
        number = f"-{i}" if len(names) > 1 else ""
        # evidence for the background is not drawn
        pixels = plot.overlay(view, np.maximum(map_, 0) if signed else map_)
        Image.fromarray(pixels).save(stage / f"query{number}.png")
        figure = plot.grid_figure(
            [[view, pixels]],
            captions=[[query.name, f"{title} {score:.3f}"]],
            title=_plain(textwrap.shorten(name, _LONGEST, placeholder=' ..."')),
            colorbar=True,
        )
        with warnings.catch_warnings():
            # letters that matplotlib's font lacks become boxes; the manifest has them
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure.savefig(stage / f"text{number}.png")


def _plain(sentence: str) -> str:
    """The sentence as matplotlib must have it: what stands between two dollars is a formula."""
    return sentence.replace("$", r"\$")
