"""Rows in batches of one size: a program that takes them is compiled once."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


def padded_batches(load: Callable[[slice], Any], rows: int, size: int) -> Iterator[tuple[Any, int]]:
    """Batches of `size` rows, in order; the last one is filled up with copies of its last row.

    Args:
        load: consecutive rows -> a pytree of arrays [n, ...]; called for a batch at a time.
        rows: of all batches.
        size: of each batch.

    Yields:
        A pytree of numpy arrays [size, ...], and how many of its rows are not copies.

    Example:
        >>> import numpy as np
        >>> [(batch.tolist(), n) for batch, n in padded_batches(np.arange(5).__getitem__, 5, 2)]
        [([0, 1], 2), ([2, 3], 2), ([4, 4], 1)]
    """
    for start in range(0, rows, size):
        n = min(size, rows - start)
        batch = load(slice(start, start + n))
        yield jax.tree.map(lambda x, n=n: _fill(np.asarray(x), size - n), batch), n


def map_batches(
    program: Callable[[Any], Any], load: Callable[[slice], Any], rows: int, size: int
) -> Any:
    """What a program gives for the rows of `padded_batches`, put together.

    Args:
        program: a pytree of arrays [size, ...] -> a pytree of arrays [size, ...].
        load: see `padded_batches`, like all that follows.
        rows: at least one.
        size: of each batch.

    Returns:
        A pytree of numpy arrays [rows, ...].

    Example:
        >>> import numpy as np
        >>> map_batches(np.square, np.arange(5).__getitem__, 5, 2).tolist()
        [0, 1, 4, 9, 16]
    """
    parts = [
        jax.tree.map(lambda x, n=n: np.asarray(x)[:n], program(batch))
        for batch, n in padded_batches(load, rows, size)
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _fill(array: np.ndarray, copies: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], copies, axis=0)]) if copies else array
