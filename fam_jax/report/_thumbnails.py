"""Thumbnails: one file for every picture and part of it, however many pairs show it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from PIL import Image

from fam_jax.io.pictures import tried
from fam_jax.store import misplaced

SIDE = 320  # pixels of the longer side
_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A file beside the page, or the reason why there is none.

    `part` is where in what the network saw it lies, in shares of its sides: left, top, right,
    bottom. It is not all of that where the picture was padded.
    """

    file: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""
    part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


class Thumbnails:
    """Makes thumbnails in a folder, each once; holds their names and one picture at a time."""

    def __init__(self, stage: Path, read: Callable[[str], Image.Image]):
        self._stage, self._read = stage, read
        self._made: dict[tuple[str, tuple[float, ...] | None], Thumbnail] = {}
        self._numbers = count(1)

    def of(self, path: str, box: Sequence | None) -> Thumbnail:
        """The part `box` (left, top, right, bottom; None: all) of the picture at `path`."""
        key = path, None if box is None else tuple(map(float, box))
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    @property
    def not_shown(self) -> int:
        """How many pictures could not be shown."""
        return len({path for (path, _), made in self._made.items() if made.problem})

    def _make(self, path: str, box: tuple[float, ...] | None) -> Thumbnail:
        picture, reason = tried(self._read, path)
        if picture is None:
            return Thumbnail(problem=reason)
        width, height = picture.size
        left, top, right, bottom = box = box or (0, 0, width, height)
        if problem := misplaced(box, picture.size):
            return Thumbnail(problem=problem)
        wide, high, x, y = right - left, bottom - top, left, top
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, width), min(bottom, height)
        part = (left - x) / wide, (top - y) / high, (right - x) / wide, (bottom - y) / high
        scale = min(1, SIDE / max(right - left, bottom - top))
        size = max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top)))
        small = picture.resize(
            size, Image.Resampling.BICUBIC, box=(left, top, right, bottom), reducing_gap=3.0
        )
        small.info.clear()  # what a camera notes is nobody's business here
        name = f"picture-{next(self._numbers):05d}.jpg"
        small.save(self._stage / name, "JPEG", quality=_QUALITY, optimize=True)
        return Thumbnail(name, *size, part=part)
