"""TokenGrid: where the image patches are among a transformer's tokens."""

from dataclasses import dataclass
from math import gcd, isqrt, prod
from typing import Any


@dataclass(frozen=True)
class TokenGrid:
    """Where the image patches are among a transformer's tokens [b, n, c].

    Attributes:
        prefix: tokens before the patches (class, distillation, registers).
        shape: rows and columns of the patches; None for the grid that square patches of the
            images make.

    Example:
        >>> import fam_jax
        >>> fam_jax.TokenGrid(prefix=1).grid(197)
        (14, 14)
        >>> fam_jax.TokenGrid(prefix=1).grid(281, image=(224, 320))
        (14, 20)
    """

    prefix: int = 0
    shape: tuple[int, int] | None = None

    def grid(self, tokens: int, image: tuple[int, int] | None = None) -> tuple[int, int]:
        """Rows and columns for `tokens` tokens of an image [H, W]; None stands for a square one."""
        patches = tokens - self.prefix
        rows, columns = self.shape or _grid_of(patches, *(image or (1, 1)))
        if patches < 1 or rows * columns != patches:
            grid = f"do not fill a grid of {rows} x {columns}"
            if self.shape is None:
                on = f"grid on images of {image[0]} x {image[1]}" if image else "square grid"
                grid = f"fill no {on}"
            raise ValueError(
                f"tokens: {tokens} tokens less a prefix of {self.prefix} {grid}; "
                "pass TokenGrid(prefix=..., shape=(rows, columns))"
            )
        return rows, columns

    def is_of(self, shape: tuple[int, ...], image: tuple[int, int]) -> bool:
        """Whether a map of that many rows and columns lies as the patches of an image [H, W]."""
        return (self.shape or _grid_of(prod(shape), *image)) == shape


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
    if not isinstance(tokens, tuple) or len(tokens) != 2:
        raise TypeError(f"tokens: expected TokenGrid(prefix=..., shape=...), got {tokens!r}")
    prefix, shape = tokens
    return TokenGrid(prefix, None if shape is None else tuple(shape))
