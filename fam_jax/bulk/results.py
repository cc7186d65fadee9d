"""A chunk's results as the rows of the store: maps where there are any, else the reason."""

from collections.abc import Mapping

import numpy as np

from fam_jax.bulk.inputs import Seen
from fam_jax.bulk.store import INVALID, STATUS, VALID, Column, Group, encode_text

_SIDES = ("query", "reference")
MAPS = ("query_maps", "reference_maps")


def map_columns(dtype: str, maps: Mapping[str, tuple[int, ...]]) -> dict[str, Column]:
    """The arrays of a store of maps, in `dtype` and of the given shapes."""
    columns = {name: Column(dtype, shape) for name, shape in maps.items()}
    if dtype != "float32":
        columns["ranges"] = Column("float32", (2, 2))
    return columns | {
        "boxes": Column("float32", (2, 4)),
        "scores": Column("float32", (), "NaN"),
        **STATUS,
    }


def collect_chunk(
    group: Group, chunk: int, seen: Seen, found: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The group's arrays of one chunk, from what the host and the device know of it."""
    n = group.rows(chunk)
    pictures = np.stack([seen.query, seen.reference], axis=1)
    reasons = [_reason(seen, found, row, pictures[row]) for row in range(n)]
    unread = np.array([any(seen.reasons[i] for i in row) for row in pictures])
    arrays = {name: found[name][:n].copy() for name in group.columns if name in found}
    for array in arrays.values():
        array[unread] = np.nan if array.ndim == 1 else 0
    return arrays | {
        "boxes": seen.boxes[pictures],
        "reason": encode_text(reasons),
        "status": np.array([INVALID if reason else VALID for reason in reasons], np.uint8),
    }


def _reason(seen: Seen, found: dict[str, np.ndarray], row: int, pictures: np.ndarray) -> str:
    for side, picture in zip(_SIDES, pictures, strict=True):
        if reason := str(seen.reasons[picture]):
            return f"{side}: {reason}"
    if found["valid"][row]:
        return ""
    for flag, what in (("finite", "is not finite"), ("nonzero", "is zero")):
        for side, said in zip(_SIDES, found[flag][row], strict=True):
            if not said:
                return f"the embedding of the {side} {what}"
    return "no evidence at this layer"
