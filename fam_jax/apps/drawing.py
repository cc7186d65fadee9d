"""The overlays and figures of `fam-jax explain`, from what its folder keeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fam_jax import plot
from fam_jax.apps.views import share
from fam_jax.io import files
from fam_jax.plot.overlays import Box, scaled

ROLES = "query", "reference"
SCALES = ("each", "shared")  # of colours: a map's own, or one for all maps of the folder
STYLE = {"colormap": "turbo", "alpha": 0.65, "scale": "each"}
NOTHING = "nothing to show"
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
        about: of the manifest `facts`, `texts` and `figures`.
        arrays: those of maps.npz.
        pictures: the query and the references.

    Returns:
        For every pair the names of its pictures that are of one colour: no place of theirs can be
        pointed at, so their maps are not drawn.
    """
    style, texts = about["figures"], about.get("texts")
    names = [Path(file["path"]).name for file in (about["query"], *about["references"])]
    roles = ROLES[:1] if texts else ROLES
    heats = {role: arrays[f"{role}_maps"] for role in roles}
    if style["clipped"]:
        heats = {role: [_positive(heat) for heat in maps] for role, maps in heats.items()}
    limits = None
    if style["scale"] == "shared":
        every = np.concatenate([np.ravel(heat) for maps in heats.values() for heat in maps])
        limits = float(every.min()), float(every.max())
    flat = []
    for i, score in enumerate(arrays["scores"].tolist()):
        end = f"-{i + 1}" if len(arrays["scores"]) > 1 else ""
        which = range(1) if texts else (0, i + 1)
        sides = [
            _side(pictures[n], about[f"{role}_boxes"][i], heats[role][i], style, limits)
            for role, n in zip(roles, which, strict=True)
        ]
        for role, side in zip(roles, sides, strict=True):
            Image.fromarray(side.overlay).save(stage / f"{role}{end}.png")
        title = f"{style['title']} {score:.3f}"
        if texts:
            (side,) = sides
            rows = [[side.view, side.overlay, *side.parts]]
            captions = [[names[0], "\n".join([title, *side.says]), *([PART] * len(side.parts))]]
            title = _sentence(texts[i])
        else:
            rows = [[getattr(side, part) for side in sides] for part in ("view", "overlay")]
            captions = [[names[n] for n in which], ["".join(side.says) for side in sides]]
            if any(side.parts for side in sides):
                rows.append([side.parts[0] if side.parts else None for side in sides])
                captions.append([PART if side.parts else "" for side in sides])
        figure = plot.grid_figure(
            rows, captions=captions, title=title, colorbar=True, colormap=style["colormap"]
        )
        figure.savefig(stage / f"{'text' if texts else 'pair'}{end}.png")
        flat.append([names[n] for n, side in zip(which, sides, strict=True) if side.flat])
    return flat


class _Side(NamedTuple):
    """One picture of a pair."""

    view: Shown
    overlay: np.ndarray
    parts: list[np.ndarray]  # what the network saw of it by itself, where that is little
    flat: bool  # whether that is of one colour
    says: list[str]  # that there is nothing to show


def _side(
    picture: Image.Image,
    box: Sequence[float | int],
    heat: np.ndarray,
    style: Mapping[str, Any],
    limits: tuple[float, float] | None,
) -> _Side:
    view = _shown(picture, box)
    flat = _is_flat(view)
    if flat:
        heat = np.zeros_like(heat)
    says = scaled(heat, None).any()
    look = {"limits": limits if says else None, **{k: style[k] for k in ("alpha", "colormap")}}
    parts = []
    if share(picture.size, box) < _LITTLE:
        part = picture.crop(tuple(map(round, box)))
        parts = [plot.overlay(_shown(part, (0, 0, *part.size)), heat, **look)]
    return _Side(view, plot.overlay(view, heat, **look), parts, flat, [] if says else [NOTHING])


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
