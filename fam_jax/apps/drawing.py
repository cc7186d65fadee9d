"""The overlays and figures of `fam-jax explain`, from what its folder keeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fam_jax import plot
from fam_jax.apps.network import Network
from fam_jax.apps.views import share
from fam_jax.io import files
from fam_jax.plot.figures import remark
from fam_jax.plot.overlays import DIVERGING, SEQUENTIAL, Box, is_signed, shows, symmetric

ROLES = "query", "reference"
SCALES = ("each", "shared")  # of colours: a map's own, or one for all maps of the folder
STYLE = {"colormap": "turbo", "alpha": 0.65, "scale": "each"}
PART = "the part seen"
_LITTLE = 1 / 3  # of a picture: a figure shows the part by itself, too
_SIDE = 256, 512  # pixels of the shorter side of an overlay: at least, at most
_LONGEST = 2400  # of its longer side
_LETTERS = 60  # of a sentence in the title of a figure
_FLAT = 8  # grey levels: what differs by no more is of one colour


class Shown(NamedTuple):
    """A picture at the size of its overlay, and the part that the network saw, in pixels."""

    picture: Image.Image
    box: Box


def figure_style(net: Network, method: str, what: str, *, contrastive: bool) -> dict[str, Any]:
    """What a manifest says of the look of its figures, and of what is written over them.

    Of signed maps the negative part, evidence for the background, is not drawn.
    """
    random = ", random weights" if net.backbone.report is None else ""
    part = ", positive part" if contrastive else ""
    title = f"{net.backbone.name}{random}, {method}{part}: {what}"
    return {"title": title, "clipped": contrastive, **STYLE}


def facts(folder: Path, paths: Sequence[Path], seen: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """What the manifest of a folder says of pictures, the query first, and of the views of pairs.

    Boxes are in pixels of the whole, upright picture, beyond its edges where it was padded.
    """
    sizes = [list(view.picture.size) for view in (seen[0][0], *(pair[-1] for pair in seen))]
    pictures = [
        {**files.traceable_facts(path, folder), "size": size}
        for path, size in zip(paths, sizes, strict=False)
    ]
    columns = zip(*seen, strict=True)
    boxes = {
        f"{role}_boxes": [list(v.box) for v in c] for role, c in zip(ROLES, columns, strict=False)
    }
    return {"query": pictures[0], "references": pictures[1:], **boxes}


def draw(
    stage: Path,
    about: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    pictures: Sequence[Image.Image],
) -> list[list[str]]:
    """Write an overlay of every map, and a figure of every pair.

    Args:
        stage: where to.
        about: of the manifest `facts`, `texts`, `words` and `figures`.
        arrays: those of maps.npz.
        pictures: the query and the references.

    Returns:
        For every pair the names of its pictures that are of one colour: no place of theirs can be
        pointed at, so their maps are not drawn.
    """
    style, texts = about["figures"], about.get("texts")
    names = [Path(file["path"]).name for file in (about["query"], *about["references"])]
    pairs = []
    for i in range(len(arrays["scores"])):
        parts = zip(ROLES, (0,) if texts else (0, i + 1), strict=False)
        pairs.append([Side(pictures[n], names[n], role, i, about, arrays) for role, n in parts])
    limits = None
    if style["scale"] == "shared":
        drawn = [side.heat for sides in pairs for side in sides if shows(side.heat)]
        if any(map(is_signed, drawn)):
            limits = symmetric(drawn)
        elif drawn:
            limits = tuple(float(f(list(map(f, drawn)))) for f in (np.min, np.max))
    look = {"limits": limits, "alpha": style["alpha"], "colormap": style["colormap"]}
    for i, (sides, score) in enumerate(zip(pairs, arrays["scores"].tolist(), strict=True)):
        end = f"-{i + 1}" if len(pairs) > 1 else ""
        overlays = [side.overlay(side.view, look) for side in sides]
        for side, pixels in zip(sides, overlays, strict=True):
            Image.fromarray(pixels).save(stage / f"{side.role}{end}.png")
        title = f"{style['title']} {score:.3f}"
        says = [remark(side.heat) for side in sides]
        seen = [side.part and side.overlay(side.part, look) for side in sides]
        below = [PART if side.part else "" for side in sides]
        if texts:
            rows = (
                [[sides[0].view, *overlays, *seen]] if any(below) else [[sides[0].view, *overlays]]
            )
            captions = [[names[0], f"{title}\n{says[0]}".strip(), *below]]
            title = _sentence(texts[i])
        else:
            rows, captions = (
                [[side.view for side in sides], overlays],
                [[s.name for s in sides], says],
            )
            if any(below):
                rows, captions = [*rows, seen], [*captions, below]
        signed = style["colormap"] == SEQUENTIAL and any(is_signed(side.heat) for side in sides)
        colours = DIVERGING if signed else style["colormap"]
        figure = plot.grid_figure(
            rows, captions=captions, title=title, colorbar=True, colormap=colours
        )
        file = stage / f"{'text' if texts else 'pair'}{end}.png"
        if "words" in about:
            _stacked(figure, words_figure(about, i, figure.get_figwidth())).save(file)
        else:
            figure.savefig(file)
    return [[side.name for side in sides if side.flat] for sides in pairs]


def words_figure(about: Mapping[str, Any], pair: int, width: float) -> Figure:
    """The words of a sentence with their shares, and what belongs to none."""
    style, sentences = about["figures"], about["words"]
    rows = [[_number(word["share"]) for word in of["words"]] for of in sentences]
    limits = None
    if style["scale"] == "shared":
        most = np.abs(np.nan_to_num(np.concatenate(rows))).max(initial=0)
        limits = (-most, most) if most else None
    of = sentences[pair]
    apart = {name: _number(share) for name, share in of["apart"].items() if share != 0}
    return plot.sentence(
        [word["word"] for word in of["words"]],
        np.array(rows[pair]),
        apart={**apart, f"all: {about['similarity']}": _number(of["score"])},
        limits=limits,
        colormap=style["colormap"],
        width=width,
    )


def _number(share: float | None) -> float:
    """Of what could not be said: not a number."""
    return np.nan if share is None else share


def _stacked(*figures: Figure) -> Image.Image:
    """Figures of one width as one picture, below each other."""
    parts = []
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        parts.append(np.asarray(canvas.buffer_rgba())[..., :3])
    return Image.fromarray(np.concatenate(parts))


class Side:
    """One picture of a pair, and its map as it is drawn."""

    def __init__(
        self,
        picture: Image.Image,
        name: str,
        role: str,
        pair: int,
        about: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
    ):
        self.name, self.role = name, role
        box, heat = about[f"{role}_boxes"][pair], arrays[f"{role}_maps"][pair]
        self.view = _shown(picture, box)
        self.part = None  # what the network saw of it by itself, where that is little
        if share(picture.size, box) < _LITTLE:
            left, top, right, bottom = map(round, box)
            part = picture.crop((left, top, right, bottom))
            self.part = _shown(part, (0, 0, *part.size))
        self.flat = _is_flat(self.view)
        valid = np.isfinite(heat).all() and arrays.get("valid", np.ones(pair + 1))[pair]
        heat = heat if valid and not self.flat else np.zeros_like(heat)
        self.heat = _positive(heat) if about["figures"]["clipped"] else heat

    def overlay(self, view: Shown, look: dict[str, Any]) -> np.ndarray:
        """The map on the picture, or on a part of it."""
        if not shows(self.heat):
            look = {**look, "limits": None}
        return plot.overlay(view, self.heat, **look)


def _positive(heat: np.ndarray) -> np.ndarray:
    """The positive part of a signed map: the negative one is evidence for the background."""
    rounding = 8 * np.finfo(heat.dtype).eps * np.abs(heat).max()
    return np.where(heat > rounding, heat, 0)


def _shown(picture: Image.Image, box: Sequence[float | int]) -> Shown:
    shorter = min(picture.size)
    scale = min(max(shorter, _SIDE[0]), _SIDE[1]) / shorter
    scale = min(scale, _LONGEST / max(picture.size))
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    left, right = (round(x * size[0] / picture.width) for x in box[::2])
    top, bottom = (round(y * size[1] / picture.height) for y in box[1::2])
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    # A picture of a few pixels in one direction: the part has one of them at least.
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    return Shown(picture, (left, top, max(right, left + 1), max(bottom, top + 1)))


def _is_flat(view: Shown) -> bool:
    left, top, right, bottom = map(int, view.box)
    seen = np.asarray(view.picture)[max(top, 0) : bottom, max(left, 0) : right]
    return bool(np.ptp(seen, axis=(0, 1)).max() <= _FLAT)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f'"{text if len(text) <= _LETTERS else text[:_LETTERS].rstrip() + " ..."}"'
