"""Position embeddings for a grid of patches other than the one they were trained on.

Cubic convolution (Keys, "Cubic convolution interpolation for digital image processing", 1981) along
each axis, as two small matrices: W_rows P W_columns^T.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float64

from pretrained_ports.models.transformer import wide


class Resampling(NamedTuple):
    """How a project resamples.

    Attributes:
        antialias: False is PyTorch's plain bicubic (a = -0.75, four taps whatever the scale); True
            its antialiased one (a = -0.5, a kernel that widens when the grid shrinks).
        offset: Added to the new number of patches where the scale is computed, not the output.
    """

    antialias: bool = True
    offset: float = 0.0


def resample(
    positions: Float[Array, "1 n c"],
    grid: tuple[int, int],
    to: tuple[int, int],
    how: Resampling,
) -> Float[Array, "1 m c"]:
    """Positions of a grid of patches, row by row, on another grid; the same if that is the same.

    Args:
        positions: One row per patch.
        grid: Rows and columns of patches that they were trained on.
        to: Rows and columns that are needed.
        how: The method.

    Examples:
        >>> resample(jnp.ones((1, 4, 8)), (2, 2), (3, 5), Resampling()).shape
        (1, 15, 8)
    """
    if grid == to:
        return positions
    cells = wide(positions).reshape(*grid, -1)
    rows, columns = (weights(o, n, how).astype(cells.dtype) for o, n in zip(grid, to, strict=True))
    # "highest" because they are tiny, and part of what the family defines
    cells = jnp.einsum("ih,hwc->iwc", rows, cells, precision="highest")
    cells = jnp.einsum("jw,iwc->ijc", columns, cells, precision="highest")
    return cells.reshape(1, to[0] * to[1], -1).astype(positions.dtype)


def weights(old: int, new: int, how: Resampling) -> Float64[np.ndarray, "new old"]:
    """The matrix that resamples one axis; its rows sum to 1."""
    scale = old / (new + how.offset)
    matrix = np.zeros((new, old))
    for row in range(new):
        centre = (row + 0.5) * scale
        if how.antialias:
            reach = max(scale, 1.0)
            taps = np.arange(max(int(centre - 2 * reach + 0.5), 0), old)
            taps = taps[: int(centre + 2 * reach + 0.5) - taps[0]]
            values = _cubic((taps + 0.5 - centre) / reach, -0.5)
            values /= values.sum()  # what lies beyond the border is left out
        else:
            taps = np.floor(centre - 0.5) + np.arange(-1, 3)
            values = _cubic(taps + 0.5 - centre, -0.75)
            taps = taps.clip(0, old - 1).astype(int)  # what lies beyond repeats the border
        np.add.at(matrix[row], taps, values)
    return matrix


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys's kernel, of which `a` is the slope at 1."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
