"""What a store of maps holds: rows and their status, whoever writes or reads it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from fam_jax._core.brief import one_line

NOT_DONE, VALID, INVALID = 0, 1, 2  # of a row; invalid: done, but without maps


class Row(NamedTuple):
    """One explained pair.

    Attributes:
        index: its place in the store.
        id: its name, or its number.
        label: a class or another remark, or None.
        query: the path of one picture.
        reference: the path of the other.
        score: the similarity; NaN if there is none.
        status: `NOT_DONE`, `VALID` or `INVALID`.
        reason: why it is invalid.
        query_map: raw map, [h, w] of a picture; None if it is not valid.
        reference_map: that of the reference.
        query_box: left, top, right, bottom: the part of the upright picture that the network saw
            and the map covers, in the picture's own pixels; None for all of it.
        reference_box: that of the reference.
    """

    index: int
    id: str
    label: str | None
    query: str
    reference: str
    score: float
    status: int = VALID
    reason: str = ""
    query_map: np.ndarray | None = None
    reference_map: np.ndarray | None = None
    query_box: tuple[float, float, float, float] | None = None
    reference_box: tuple[float, float, float, float] | None = None

    __repr__ = one_line


def misplaced(box: Sequence[float | int], size: Sequence[int]) -> str:
    """Why a row's box is of no picture of this size; "" if it is.

    It is a part of the picture, or a padding to both sides of all of it. A store may have rounded
    the box: half a pixel is no other picture.
    """
    (left, top, right, bottom), (width, height) = box, size
    before, after, above, below = -left, right - width, -top, bottom - height  # beyond
    padded = abs(before - after) <= 1 and abs(above - below) <= 1 and abs(min(before, above)) <= 0.5
    within = max(before, after, above, below) <= 0.5
    if left < right and top < bottom and (padded or within):
        return ""
    return (
        f"not the picture that was explained: it has {width} x {height} pixels; "
        f"the part that was seen is {left:g}, {top:g} to {right:g}, {bottom:g}"
    )


@runtime_checkable
class Store(Protocol):
    """Explained pairs: scores and status of all of them, the rest of a row on demand."""

    @property
    def path(self) -> str:
        """Where it is."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What it was made with, as plain JSON values: model, layer, method, similarity, ..."""
        ...

    def __len__(self) -> int: ...

    def scores(self) -> np.ndarray:
        """Of all rows, float32 [n]; NaN where there is none."""
        ...

    def status(self) -> np.ndarray:
        """Of all rows, uint8 [n]."""
        ...

    def rows(self, indices: Sequence[int]) -> Iterable[Row]:
        """The rows at `indices`, in that order."""
        ...
