"""Rows that failed because of a picture, and the chunks that are worth another try."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from fam_jax.bulk._pairs import Pairs
from fam_jax.bulk._pictures import Loader
from fam_jax.bulk._settings import on_first_process
from fam_jax.bulk._zarr import Group, decode_text
from fam_jax.store import INVALID

_SIDES = {"query: ": 2, "reference: ": 3}  # how a reason begins, and where the path is in a row


def restored(group: Group, load: Loader, path_of: Callable[[int, str], str | None]) -> np.ndarray:
    """Chunks with a row that has no result for want of a picture that can be read now.

    Args:
        group: where the rows are.
        load: what to do with a path.
        path_of: a row's number and the reason in it -> the picture that failed, if one did.

    Returns:
        Numbers of chunks, the same in every process.
    """

    @cache
    def can_be_read(path: str) -> bool:
        return not str(load(path)["reason"])

    def find() -> np.ndarray:
        found = np.zeros(len(group), bool)
        status = group.read_status()
        for chunk in range(len(group)):
            part = group.slices(chunk)
            rows = np.flatnonzero((status[part] == INVALID).reshape(-1))
            if not len(rows):
                continue
            numbers = np.arange(status.size).reshape(status.shape)[part].reshape(-1)[rows]
            texts = group.read("reason", part)
            reasons = decode_text(texts.reshape(-1, texts.shape[-1])[rows])
            paths = map(path_of, numbers.tolist(), reasons)
            found[chunk] = any(can_be_read(path) for path in paths if path)
        return found

    return np.flatnonzero(on_first_process(find, np.zeros(len(group), bool)))


def of_pairs(pairs: Pairs) -> Callable[[int, str], str | None]:
    """For a store of maps."""

    def path_of(row: int, reason: str) -> str | None:
        for begins, place in _SIDES.items():
            if reason.startswith(begins):
                return str(pairs.row(row)[place])
        return None

    return path_of


def of_pictures(pictures: Sequence[str]) -> Callable[[int, str], str | None]:
    """For an index."""
    return lambda row, reason: pictures[row] if reason else None
