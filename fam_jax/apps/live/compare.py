"""Several methods on one pair, and how fast the score falls as each one's places are deleted."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

import fam_jax
from fam_jax import methods, metrics
from fam_jax._core.brief import message
from fam_jax.apps import pairs, views
from fam_jax.apps.live.answers import Answer, compared
from fam_jax.apps.live.opened import Background, Opened, Picture
from fam_jax.methods.registry import entry

STEPS = 10  # of a deletion
_DASHED = ("random", "centre", "activation-sum", "eigen-cam")


class Row(NamedTuple):
    """A method's maps, or why there are none; its deletion [STEPS + 1], if it was asked for."""

    method: str
    answer: Answer | None = None
    why: str = ""
    deletion: np.ndarray | None = None


def compare(
    opened: Opened,
    layer: str,
    names: Iterable[str],
    deleted: Sequence[str],
    pictures: tuple[Picture, Picture],
    background: Background,
) -> list[Row]:
    """A row for each method; those that need a background alone take it, as in an evaluation."""
    net = opened.at(layer)
    images = [picture.image for picture in pictures]
    seen = views.opened(net, opened.fit, opened.similarity, images, jnp.zeros(0))
    ((query, reference),) = seen
    inputs = query.input[None], reference.input[None]
    encodings = [net.encode(one) for one in inputs]
    rows = []
    for name in names:
        needed = entry(name).background == "needed"
        own = background if needed else Background()
        if needed and own.embeddings is None:
            rows.append(Row(name, why="give a background"))
            continue
        try:
            method = methods.make(name, opened.similarity, own.embeddings)
            if method.needs_images:
                arrays = pairs.of_pictures(net.encode, seen, method)
            else:  # the network sees each picture once, for all of these
                out = pairs.pair(*encodings, method)
                arrays = {key: np.asarray(value) for key, value in out._asdict().items()}
        except (TypeError, ValueError) as error:
            rows.append(Row(name, why=message(error)))
            continue
        answer = compared(opened, net, name, own, pictures, seen, arrays)
        curve = _deletion(net.encode, inputs, arrays, opened) if name in deleted else None
        rows.append(Row(name, answer, deletion=curve))
    return rows


def _deletion(
    encode: fam_jax.Encoder, inputs: Sequence[np.ndarray], arrays: dict, opened: Opened
) -> np.ndarray:
    """The similarity as both pictures lose their places, each in the order of its own map."""
    maps = [
        # Of one size, so that one program serves methods with maps of any.
        fam_jax.upsample(arrays[f"{role}_maps"], image.shape[1:3])
        for role, image in zip(("query", "reference"), inputs, strict=True)
    ]
    (query, reference), (own, others) = inputs, maps
    curve = metrics.deletion_pairs(
        encode, query, reference, own, others, opened.similarity, steps=STEPS
    )
    return np.asarray(curve.values[0])


def figure(rows: Sequence[Row], similarity: str) -> Figure | None:
    """The deletions as lines, the areas under them in the legend; None if there are none."""
    curves = {row.method: row.deletion for row in rows if row.deletion is not None}
    if not curves:
        return None
    drawn = Figure(figsize=(7.2, 3.6), dpi=120, layout="constrained")
    axes = drawn.subplots()
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, len(curves)))
    for (name, values), colour in zip(curves.items(), colours, strict=True):
        way = np.linspace(0, 100, len(values))
        area = float(np.mean((values[1:] + values[:-1]) / 2))
        style = "--" if name in _DASHED else "-"
        axes.plot(way, values, style, color=colour, linewidth=1.6, label=f"{name} {area:.3f}")
    axes.set_xlabel("% of the pixels of both pictures deleted")
    axes.set_ylabel(similarity)
    axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(loc="outside right center", fontsize=8, title="area: lower is better")
    return drawn
