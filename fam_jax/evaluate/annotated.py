"""Pictures with the place of an object: Pascal-VOC boxes (NAME.xml) or masks (NAME_mask.png)."""

import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image

from fam_jax._core.brief import legible
from fam_jax.evaluate.data import because
from fam_jax.io.pictures import MIN_SIDE, READER, Reader, is_hidden, is_picture, tried

_MASKS = ("_segmentation_mask", "_mask")  # of two, the last one counts


class Annotated(NamedTuple):
    """A picture, by the name of its file, and where its objects are in its own pixels."""

    name: str
    label: str
    image: Image.Image
    mask: Bool[np.ndarray, "H W"]


class Place(NamedTuple):
    """A box of pixels: left <= column < right, top <= row < bottom."""

    left: int
    top: int
    right: int
    bottom: int


def annotated(folder: Path, reader: Reader = READER) -> tuple[list[Annotated], list[str]]:
    """Every picture of a folder with a box file or a mask beside it, and a line for each other one.

    A box file is a Pascal-VOC .xml of the same name; all its objects count. A mask is a picture
    NAME_mask.* of the same size: objects are where it is neither 0 nor 255 for a picture of class
    indices, and where it is bright for a picture of black and white.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--data: no such folder: {legible(folder)}")
    usable, left_out = [], []
    files = [f for f in sorted(folder.iterdir()) if not is_hidden(f) and is_picture(f)]
    masks = {f.stem.removesuffix(e): f for e in _MASKS for f in files if f.stem.endswith(e)}
    for path in files:
        if path.stem.endswith(_MASKS):
            continue
        mask = masks.get(path.stem)
        boxes = path.with_suffix(".xml")
        if boxes.is_file():
            one, reason = tried(partial(_with_boxes, boxes=boxes, reader=reader), path)
        elif mask is not None:
            one, reason = tried(partial(_with_mask, mask=mask, reader=reader), path)
        else:
            one, reason = None, f"neither {legible(boxes.name)} nor a mask lies beside it"
            reason = f"{legible(path.name)}: {reason}"
        if one is None:
            left_out.append(reason)
        else:
            usable.append(one)
    if not usable:
        raise ValueError(
            f"--data: no picture of {legible(folder)} has boxes (NAME.xml) or a mask "
            f"(NAME_mask.png){because(left_out)}"
        )
    return usable, left_out


def _with_boxes(path: Path, boxes: Path, reader: Reader) -> Annotated:
    image = reader(path)
    try:
        objects = ET.parse(boxes).getroot().findall("object")
        places = [_place(thing) for thing in objects]
        label = objects[0].findtext("name", "object") if objects else ""
    except (ET.ParseError, TypeError, ValueError, AttributeError):
        raise ValueError(
            f"{legible(boxes.name)} is not a Pascal-VOC annotation, or damaged"
        ) from None
    if not places:
        raise ValueError(f"{legible(boxes.name)} has no object")
    mask = np.zeros((image.height, image.width), bool)
    for box in places:
        if not (0 <= box.left < box.right <= image.width) or not (
            0 <= box.top < box.bottom <= image.height
        ):
            raise ValueError(
                f"{legible(boxes.name)}: the box {tuple(box)} lies outside the picture of "
                f"{image.width} x {image.height} pixels, or is empty"
            )
        mask[box.top : box.bottom, box.left : box.right] = True
    return Annotated(path.name, label, image, mask)


def _place(thing: ET.Element) -> Place:
    """Pascal-VOC counts from 1, its last pixel belongs to the box; some writers count from 0."""
    left, top, right, bottom = (
        round(float(thing.findtext(f"bndbox/{name}", "")))
        for name in ("xmin", "ymin", "xmax", "ymax")
    )
    return Place(left - (left > 0), top - (top > 0), right, bottom)


def _with_mask(path: Path, mask: Path, reader: Reader) -> Annotated:
    image = reader(path)
    levels = Reader(convert=False)(mask)
    whole = levels.mode in ("1", "L", "P") or levels.mode.startswith("I")
    indices = np.asarray(levels if whole else levels.convert("L")).astype(np.int32)
    if indices.shape != (image.height, image.width):
        raise ValueError(
            f"{legible(mask.name)} is {indices.shape[1]} x {indices.shape[0]} pixels, its picture "
            f"{legible(path.name)} {image.width} x {image.height}: a mask of the same size is "
            "expected"
        )
    two_levels = set(np.unique(indices)) <= {0, indices.max()}
    place = indices > 0 if two_levels else (indices > 0) & (indices < 255)
    if not place.any() or place.all():
        raise ValueError(
            f"{legible(mask.name)} marks {'all' if place.all() else 'nothing'} of its picture"
        )
    return Annotated(path.name, "object", image, place)


def box_of(mask: Bool[np.ndarray, "H W"]) -> Place:
    """The tight box around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Place(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def beside(mask: Bool[np.ndarray, "H W"], share: float = 0.2) -> Place | None:
    """The largest strip of the picture on one side of all objects; None if all are thin."""
    height, width = mask.shape
    box = box_of(mask)
    strips = (
        Place(0, 0, box.left, height),
        Place(box.right, 0, width, height),
        Place(0, 0, width, box.top),
        Place(0, box.bottom, width, height),
    )
    least = max(MIN_SIDE, share * min(mask.shape))
    wide = [s for s in strips if min(s.right - s.left, s.bottom - s.top) >= least]
    return max(wide, key=lambda s: (s.right - s.left) * (s.bottom - s.top), default=None)
