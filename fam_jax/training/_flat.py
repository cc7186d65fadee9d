"""Inputs and maps of any number of axes as pictures: what a strip and TensorBoard can show."""

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from fam_jax._core.checks import AnyArray
from fam_jax._core.maps import rescale

_LINE = 240, 120  # pixels of a signal, across and down


def flat_map(map: AnyArray) -> Float[np.ndarray, "h w"]:
    """A map as one of a picture: of a signal one row, of more axes the last two.

    Through the others, along which it is looked, the value of the largest magnitude is seen.

    Examples:
        >>> import numpy as np
        >>> from fam_jax.training._flat import flat_map
        >>> flat_map(np.array([[[1.0, -4.0]], [[2.0, 3.0]]])).tolist()
        [[2.0, -4.0]]
    """
    map = np.atleast_2d(np.asarray(map))
    through = map.reshape(-1, *map.shape[-2:])
    strongest = np.abs(through).argmax(axis=0)[None]
    return np.take_along_axis(through, strongest, axis=0)[0]


def flat_pictures(inputs: AnyArray) -> list[np.ndarray]:
    """One picture for every input, of floats in [0, 1], each scaled on its own.

    Images are what they are, in grey if they haven't 3 channels; signals are lines; of volumes and
    video the brightest along the axes before the last two; of token ids there is nothing to see.
    """
    if not np.issubdtype(inputs.dtype, np.floating):
        return [np.ones((_LINE[1], _LINE[0]), np.float32)] * len(inputs)
    x = np.asarray(inputs, np.float32)
    x = x[..., None] if x.ndim == 2 else x
    if x.ndim == 3:
        return list(map(_lines, x))
    x = np.asarray(rescale(x, axes=tuple(range(1, x.ndim))))
    if x.ndim == 4:
        return list(x if x.shape[3] == 3 else x.mean(axis=3))
    grey = x.mean(axis=-1)
    return list(grey.max(axis=tuple(range(1, grey.ndim - 2))))


def _lines(signal: np.ndarray) -> np.ndarray:
    """The channels of a signal [t, c] above each other, each on its own scale."""
    (width, height), (steps, channels) = _LINE, signal.shape
    picture = Image.new("L", _LINE, 255)
    draw = ImageDraw.Draw(picture)
    unit = np.asarray(rescale(signal.T, axes=(1,)))
    across = (np.arange(steps) + 0.5) * width / steps
    band = height / channels
    for i, values in enumerate(unit):
        down = band * (i + 0.95 - 0.9 * values)
        draw.line(list(zip(across.tolist(), down.tolist(), strict=True)), fill=60)
    return np.asarray(picture, np.float32) / 255
