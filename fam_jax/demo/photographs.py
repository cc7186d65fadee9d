"""Real photographs without a download, cut into a part to learn from and a part to be tested on.

The pictures are files inside the wheels of scikit-image and scikit-learn. The lower right quarter of each photograph
is held out; training may use everything else. A held-out crop lies in the left or in the right half of that
quarter, so a *query* from one half and a *reference* from the other are the same photograph without a
shared pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

SKIMAGE = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
SKLEARN = ("china.jpg", "flower.jpg")


class Box(NamedTuple):
    """A rectangle of pixels, `top <= row < bottom` and `left <= column < right`."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class Photograph:
    """An RGB photograph with its training and held-out regions."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]

    @property
    def training(self) -> tuple[Box, Box]:
        """The left half and the upper half: together, all but the lower right quarter."""
        H, W, _ = self.image.shape
        return Box(0, 0, H, W // 2), Box(0, 0, H // 2, W)

    @property
    def held_out(self) -> tuple[Box, Box]:
        """The left and the right half of the lower right quarter."""
        H, W, _ = self.image.shape
        return Box(H // 2, W // 2, H, 3 * W // 4), Box(H // 2, 3 * W // 4, H, W)


class Mosaics(NamedTuple):
    """Two-by-two mosaics, each with a reference crop that matches one of its cells."""

    images: UInt8[np.ndarray, "n 2*size 2*size 3"]
    references: UInt8[np.ndarray, "n size size 3"]
    masks: Bool[np.ndarray, "n 2*size 2*size"]
    cells: Int[np.ndarray, "n 4"]
    targets: Int[np.ndarray, " n"]


def load(side: int = 256) -> list[Photograph]:
    files = _files()
    return [Photograph(path.stem, _read(path, side)) for path in files]


def draw(photograph, rng, half, size=64, fraction=0.25):
    box = photograph.held_out[half]
    side = round(fraction * min(photograph.image.shape[:2]))
    top = rng.integers(box.top, box.bottom - side, endpoint=True)
    left = rng.integers(box.left, box.right - side, endpoint=True)
    crop = photograph.image[top : top + side, left : left + side]
    if side != size:
        crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
    return crop


def mosaics(photographs, rng, count, size=64):
    images = np.empty((count, 2 * size, 2 * size, 3), np.uint8)
    references = np.empty((count, size, size, 3), np.uint8)
    cells = np.stack([rng.choice(len(photographs), 4, replace=False) for _ in range(count)])
    where = rng.integers(4, size=count)
    masks = np.zeros((count, 2, size, 2, size), bool)
    for n in range(count):
        half = rng.integers(2)
        crops = [draw(photographs[i], rng, half, size) for i in cells[n]]
        images[n] = np.block([[[crops[0]], [crops[1]]], [[crops[2]], [crops[3]]]])
        references[n] = draw(photographs[cells[n, where[n]]], rng, 1 - half, size)
        masks[n, where[n] // 2, :, where[n] % 2] = True
    return Mosaics(images, references, masks.reshape(count, 2 * size, 2 * size), cells,
                   np.take_along_axis(cells, where[:, None], 1)[:, 0])


def _files() -> list[Path]:
    try:
        import skimage.data
        import sklearn.datasets
    except ImportError as error:
        raise ImportError('the photographs need: pip install "fam-jax[demo]"') from error
    ski = Path(skimage.data.__file__).parent
    skl = Path(sklearn.datasets.__file__).parent / "images"
    return [ski / name for name in SKIMAGE] + [skl / name for name in SKLEARN]


def _read(path, side):
    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    size = tuple(round(scale * length) for length in image.size)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
