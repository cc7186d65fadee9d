"""From a picture to the array that a network was trained on."""

import math
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps

from pretrained_ports._pictures import as_picture, read

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


Box = tuple[float, float, float, float]


class View(NamedTuple):
    """A picture as a network takes it.

    Attributes:
        input: What the network takes, float32 [h w c].
        picture: The whole picture, upright, as it was opened.
        box: The part of it that the network sees, in its own pixels: left, top, right, bottom;
            beyond its edges where the picture was padded.
    """

    input: Float32[np.ndarray, "h w c"]
    picture: Image.Image
    box: Box

    def __repr__(self) -> str:
        (h, w, _), (width, height) = self.input.shape, self.picture.size
        box = ", ".join(f"{side:g}" for side in self.box)
        return f"View(input {h} x {w}, picture {height} x {width}, box=({box}))"


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop the centre, scale to [0, 1], then (x - mean) / std.

    Pillow resizes (with antialiasing), and sizes and crop offsets are rounded as torchvision rounds
    them, so the pixels are those of `Resize(resize)`, `CenterCrop(size)`, `ToTensor()`. Colours of
    a picture with an ICC profile are brought to sRGB first, which PyTorch's pipelines do not do:
    on photographs of wide gamut their embeddings are others.

    Args:
        size: Height and width of the result.
        resize: Length of the shorter side before the crop; None stretches to `size`.
        mean: One number per channel.
        std: One number per channel.
        interpolation: "bilinear" or "bicubic".
        fit: "crop" fills `size` with the centre of the picture; "pad" shows the whole picture,
            as large as fits, in the middle of the mean colour (of white, for "minmax").
        scale: "unit" divides grey levels by 255; "minmax" maps each picture's own range to [0, 1]
            (a picture of one grey level to 0).

    Raises:
        ValueError: The options contradict each other.

    Examples:
        >>> preprocess = Preprocess(size=(224, 224), resize=256)
        >>> preprocess(np.zeros((300, 400, 3), np.uint8)).shape
        (224, 224, 3)
    """

    size: tuple[int, int]
    resize: int | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    fit: Literal["crop", "pad"] = "crop"
    scale: Literal["unit", "minmax"] = "unit"

    def __post_init__(self):
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std need 1 or 3 numbers each, got {len(self.mean)} and {len(self.std)}"
            )
        if self.resize is not None and self.resize < max(self.size):
            raise ValueError(f"resize {self.resize} is smaller than the crop {self.size}")
        if self.interpolation not in _FILTERS:
            raise ValueError(f"interpolation must be bilinear or bicubic: {self.interpolation!r}")
        if self.fit not in ("crop", "pad"):
            raise ValueError(f"fit must be crop or pad: {self.fit!r}")

    @property
    def channels(self) -> int:
        """3 for colour, 1 for grey."""
        return len(self.mean)

    def __call__(self, image: Any, box: Box | None = None) -> Float32[np.ndarray, "h w c"]:
        """The network's input for one picture.

        Args:
            image: A PIL image of 8 bits per channel, or a uint8 array [H W], [H W 1] or [H W 3].
            box: Left, top, right, bottom of a part of it, to be resized to `size` as it is; what
                `fit` chooses if not given.

        Returns:
            float32 [h w c], normalised.

        Raises:
            TypeError: Not a picture, or an array of another type than uint8.
            ValueError: An array of another shape, or a picture of more than 8 bits per channel.
        """
        pixels = np.asarray(self.view(image, box)).reshape(*self.size, self.channels)
        return self.normalise(pixels)

    def normalise(self, pixels: UInt8[np.ndarray, "*b h w c"]) -> Float32[np.ndarray, "*b h w c"]:
        """Grey levels as the network takes them, at whatever size they have: no resizing, no crop.

        Args:
            pixels: One picture or a batch, uint8.

        Returns:
            (x - mean) / std of the levels scaled to [0, 1], float32, the same shape.
        """
        levels = pixels.astype(np.float32)
        if self.scale == "minmax":
            low, high = (f(levels, axis=(-3, -2, -1), keepdims=True) for f in (np.min, np.max))
            levels = (levels - low) / np.maximum(high - low, np.float32(1))
        else:
            levels = levels / np.float32(255)
        return (levels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)

    def view(self, image: Any, box: Box | None = None) -> Image.Image:
        """The resized and cropped picture before normalisation: what the network sees.

        Args:
            image: As for calling.
            box: As for calling.

        Returns:
            A picture of `size`, mode "RGB" or "L".

        Raises:
            TypeError: As for calling.
            ValueError: As for calling.
        """
        height, width = self.size
        picture = as_picture(image).convert("L" if self.channels == 1 else "RGB")
        if box is not None:
            return picture.resize((width, height), _FILTERS[self.interpolation], box=box)
        if self.fit == "pad":
            levels = tuple(round(255 * level) for level in self.mean)
            color = "white" if self.scale == "minmax" else levels[0] if len(levels) == 1 else levels
            return ImageOps.pad(picture, (width, height), _FILTERS[self.interpolation], color)
        if self.resize is None:
            return picture.resize((width, height), _FILTERS[self.interpolation])
        picture = picture.resize(_resized(picture.size, self.resize), _FILTERS[self.interpolation])
        left = round((picture.width - width) / 2)  # half to even, as in torchvision
        top = round((picture.height - height) / 2)
        return picture.crop((left, top, left + width, top + height))

    def open(self, picture: str | PathLike[str] | Any, box: Box | None = None) -> View:
        """The network's input for a picture in a file, and which part of the picture it shows.

        Args:
            picture: A path, or a picture as for calling. The orientation that a camera noted is
                applied.
            box: As for calling.

        Raises:
            FileNotFoundError: No such file.
            ValueError: Not a picture, or damaged.
            TypeError: As for calling.

        Examples:
            >>> preprocess = Preprocess(size=(224, 224), resize=256)
            >>> view = preprocess.open(np.zeros((300, 400, 3), np.uint8))
            >>> view.input.shape, view.picture.size, view.box
            ((224, 224, 3), (400, 300), (68.75, 18.75, 331.25, 281.25))
        """
        image = read(picture) if isinstance(picture, str | PathLike) else as_picture(picture)
        return View(self(image, box), image, box or self.region(image.size))

    def region(self, size: tuple[int, int]) -> Box:
        """The part of a picture that the network sees, in the picture's own pixels.

        Args:
            size: Width and height of the picture.

        Returns:
            Left, top, right, bottom: the box whose content `view` shows, up to rounding.

        Examples:
            >>> Preprocess(size=(224, 224), resize=256).region((512, 1024))
            (32.0, 288.0, 480.0, 736.0)
        """
        width, height = size
        if self.fit == "pad":
            scale = max(width / self.size[1], height / self.size[0])
            right, below = (scale * self.size[1] - width) / 2, (scale * self.size[0] - height) / 2
            return 0 - right, 0 - below, width + right, height + below
        if self.resize is None:
            return 0.0, 0.0, float(width), float(height)
        # Whole numbers until the division: rounding must not put the box outside the picture.
        left = (width * self.resize - min(size) * self.size[1]) / (2 * self.resize)
        top = (height * self.resize - min(size) * self.size[0]) / (2 * self.resize)
        return left, top, width - left, height - top

    def windows(self, size: tuple[int, int]) -> list[Box]:
        """Boxes of the network's shape, as large as fit, that cover a picture, whatever `fit` is.

        They lie evenly along its longer side, each at most half its length after the one before:
        what is smaller than that is whole in one of them.

        Args:
            size: Width and height of the picture.

        Examples:
            >>> Preprocess(size=(224, 224), resize=256).windows((200, 100))[:2]
            [(0.0, 0.0, 100.0, 100.0), (50.0, 0.0, 150.0, 100.0)]
        """
        width, height = size
        wide = min(width, height * self.size[1] / self.size[0])
        high = min(height, width * self.size[0] / self.size[1])
        right, below = width - wide, height - high  # one of them is zero
        steps = max(1, math.ceil(2 * max(right / wide, below / high) - 1e-9))
        starts = [(right * i / steps, below * i / steps) for i in range(steps + 1)]
        ends = [(float(min(x + wide, width)), float(min(y + high, height))) for x, y in starts]
        boxes = [(*start, *end) for start, end in zip(starts, ends, strict=True)]
        return list(dict.fromkeys(boxes))


def _resized(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """The shorter side becomes `shorter`, the longer one is rounded down."""
    width, height = size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter
