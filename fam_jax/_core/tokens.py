"""TokenGrid: where the patches of an input are among a transformer's tokens."""

from dataclasses import dataclass
from math import gcd, isqrt, prod
from typing import Any


@dataclass(frozen=True)
class TokenGrid:
    """Where the patches are among the tokens [b, n, c] that a layer makes of images, volumes, ...

    Attributes:
        prefix: tokens before the patches (class, distillation, registers).
        shape: of the grid of patches, one number for each of its axes: (rows, columns), (depth,
            rows, columns). None for the grid that square patches of an image make, or the line of
            a signal's; for inputs of more axes it must be given.

    Examples:
        >>> import fam_jax
        >>> fam_jax.TokenGrid(prefix=1).grid(197)
        (14, 14)
        >>> fam_jax.TokenGrid(prefix=1).grid(281, image=(224, 320))
        (14, 20)
    """

    prefix: int = 0
    shape: tuple[int, ...] | None = None

    def grid(self, tokens: int, image: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The grid of `tokens` tokens of an input of these sides; None stands for a square one."""
        patches = tokens - self.prefix
        shape = self.shape or _grid_on(patches, image or (1, 1))
        if patches < 1 or prod(shape) != patches:
            grid = "do not fill a grid of " + " x ".join(map(str, shape))
            if self.shape is None:
                on = f"grid on images of {' x '.join(map(str, image))}" if image else "square grid"
                grid = f"fill no {on}"
            raise ValueError(
                f"tokens: {tokens} tokens less a prefix of {self.prefix} {grid}; "
                "pass TokenGrid(prefix=..., shape=(rows, columns))"
            )
        return shape

    def is_of(self, shape: tuple[int, ...], image: tuple[int, ...]) -> bool:
        """Whether a map of this shape lies as the patches of an input of these sides."""
        return (self.shape or _grid_on(prod(shape), image)) == shape


def _grid_on(patches: int, sides: tuple[int, ...]) -> tuple[int, ...]:
    """The grid of patches on an input; of a volume's or a video's no aspect tells it."""
    if len(sides) == 1:
        return (patches,)
    if len(sides) > 2:
        raise ValueError(
            f"tokens: the grid of {patches} patches of an input of {' x '.join(map(str, sides))} "
            "can't be told by their number; pass TokenGrid(prefix=..., shape=...) with its sides"
        )
    return _grid_of(patches, *sides)


def _grid_of(patches: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns with the image's aspect, exactly or as a patch size rounds it; or (0, 0).

    Both shrink as the patch grows, so no two grids of one image have the same number of patches.
    """
    unit = gcd(height, width)
    rows, columns = height // unit, width // unit
    times = isqrt(max(patches, 0) // (rows * columns))
    if times * times * rows * columns == patches:
        return times * rows, times * columns
    grids = ((height // patch, width // patch) for patch in range(1, min(height, width) + 1))
    return next((grid for grid in grids if grid[0] * grid[1] == patches), (0, 0))


def known_grid(tokens: TokenGrid | None) -> TokenGrid:
    """The grid of an encoder, for a method that reads tokens; TypeError if it knows none."""
    if tokens is None:
        raise TypeError(
            "tokens: this method reads tokens; expected capture(..., tokens=TokenGrid(...))"
        )
    return tokens


def as_token_grid(tokens: Any) -> TokenGrid | None:
    """A `TokenGrid` from one, or from any tuple (prefix, shape)."""
    if tokens is None or isinstance(tokens, TokenGrid):
        return tokens
    pair = isinstance(tokens, tuple) and len(tokens) == 2
    if not pair or not isinstance(tokens[1], tuple | list | None):
        raise TypeError(f"tokens: expected TokenGrid(prefix=..., shape=...), got {tokens!r}")
    prefix, shape = tokens
    return TokenGrid(prefix, None if shape is None else tuple(shape))
