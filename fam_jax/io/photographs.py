"""Real photographs without a download, each cut into a part to learn from and a part to be asked.

The files lie inside the wheels of scikit-image and scikit-learn. A photograph is quartered: upper
right and lower left are for training, upper left and lower right are held out.

    held out  training
    training  held out

A query from one held-out quarter and a reference from the other are the same photograph without
a shared pixel, and neither shares one with the training part.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageOps

from fam_jax._core.brief import one_line
from fam_jax._core.extras import needed

CROP = 3 / 8  # side of a held-out crop, as a share of the photograph's shorter side

SKIMAGE = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
    *("motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
)
SKLEARN = ("china.jpg", "flower.jpg")


class Box(NamedTuple):
    """A rectangle of pixels: top <= row < bottom, left <= column < right."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class Photograph:
    """A photograph with its two training and its two held-out quarters."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]

    __repr__ = one_line

    @property
    def training(self) -> tuple[Box, Box]:
        """The upper right and the lower left quarter."""
        H, W, _ = self.image.shape
        return Box(0, W // 2, H // 2, W), Box(H // 2, 0, H, W // 2)

    @property
    def held_out(self) -> tuple[Box, Box]:
        """The upper left and the lower right quarter."""
        H, W, _ = self.image.shape
        return Box(0, 0, H // 2, W // 2), Box(H // 2, W // 2, H, W)


class Mosaics(NamedTuple):
    """Two-by-two mosaics of held-out crops, each with a reference that matches one cell.

    A reference is another crop of one of the four photographs, from the other held-out quarter.
    """

    images: UInt8[np.ndarray, "n 2*size 2*size 3"]  # cells in reading order
    references: UInt8[np.ndarray, "n size size 3"]
    masks: Bool[np.ndarray, "n 2*size 2*size"]  # where the reference's photograph is
    cells: Int[np.ndarray, "n 4"]  # which photographs they come from
    targets: Int[np.ndarray, " n"]  # which one the reference comes from

    __repr__ = one_line


def load(side: int = 256) -> list[Photograph]:
    """All 18 photographs, in colour (grey ones with three equal channels), of one shorter side.

    Examples:
        >>> from fam_jax.io import photographs
        >>> cat = photographs.load(side=100)[3]
        >>> cat.name, cat.image.shape, cat.held_out[1]
        ('chelsea', (100, 150, 3), Box(top=50, left=75, bottom=100, right=150))
    """
    return [Photograph(path.stem, _read(path, side)) for path in _files()]


def draw(
    photograph: Photograph, rng: np.random.Generator, quarter: int, size: int = 64
) -> UInt8[np.ndarray, "size size 3"]:
    """A random square crop of a held-out quarter, `CROP` of the shorter side, resized.

    The `quarter` is 0 for the upper left, 1 for the lower right; `size` is the result's side.
    """
    box = photograph.held_out[quarter]
    side = round(CROP * min(photograph.image.shape[:2]))
    top = rng.integers(box.top, box.bottom - side, endpoint=True)
    left = rng.integers(box.left, box.right - side, endpoint=True)
    return resize(photograph.image[top : top + side, left : left + side], size)


def training_crops(
    photographs: list[Photograph], size: int = 64
) -> UInt8[np.ndarray, "n size size 3"]:
    """The middle of both training quarters of every photograph, cropped as `draw` crops.

    A background for contrastive methods that shares no pixel with the held-out crops.
    """
    crops = []
    for photo in photographs:
        side = round(CROP * min(photo.image.shape[:2]))
        for box in photo.training:
            top, left = (box.top + box.bottom - side) // 2, (box.left + box.right - side) // 2
            crops.append(resize(photo.image[top : top + side, left : left + side], size))
    return np.stack(crops)


def mosaics(
    photographs: list[Photograph], rng: np.random.Generator, count: int, size: int = 64
) -> Mosaics:
    """Mosaics of held-out crops of four different photographs, with a reference for each.

    All four cells come from one of the two held-out quarters, the reference from the other; `size`
    is the side of a cell, and of the reference, in pixels.

    Examples:
        >>> import numpy as np
        >>> from fam_jax.io import photographs
        >>> games = photographs.mosaics(photographs.load(), np.random.default_rng(0), count=3)
        >>> games.images.shape, games.references.shape, games.masks.mean()
        ((3, 128, 128, 3), (3, 64, 64, 3), np.float64(0.25))
    """
    cells = np.stack([rng.choice(len(photographs), 4, replace=False) for _ in range(count)])
    right = rng.integers(4, size=count)
    quarters = rng.integers(2, size=count).tolist()
    targets = cells[np.arange(count), right]

    def crops(which, quarter):
        return np.stack([draw(photographs[i], rng, quarter, size) for i in which])

    def lay_out(quadruple):
        grid = quadruple.reshape(2, 2, size, size, 3)
        return grid.swapaxes(1, 2).reshape(2 * size, 2 * size, 3)

    images = np.stack([lay_out(crops(c, q)) for c, q in zip(cells, quarters, strict=True)])
    references = np.concatenate([crops([t], 1 - q) for t, q in zip(targets, quarters, strict=True)])
    masks = np.zeros((count, 2, size, 2, size), bool)
    masks[np.arange(count), right // 2, :, right % 2] = True
    return Mosaics(images, references, masks.reshape(images.shape[:3]), cells, targets)


def resize(crop: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The crop stretched to a square of `size` pixels (bicubic)."""
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))


def _files() -> list[Path]:
    with needed("the photographs need", "demo"):
        import skimage.data
        import sklearn.datasets
    from_skimage = Path(skimage.data.__file__).parent
    from_sklearn = Path(sklearn.datasets.__file__).parent / "images"
    return [from_skimage / name for name in SKIMAGE] + [from_sklearn / name for name in SKLEARN]


def _read(path: Path, side: int) -> UInt8[np.ndarray, "H W 3"]:
    with Image.open(path) as file:
        picture = file.convert("RGB")
    return np.asarray(ImageOps.scale(picture, side / min(picture.size)))  # bicubic
