"""Rows in batches of one size: what takes them is compiled once, memory does not grow with them.

On the host, whose batches are full: `padded_batches`, `map_batches`. Inside a compiled program,
whose chunks are as equal as can be: `map_chunks`, `fold_chunks`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def padded_batches(load: Callable[[slice], Any], rows: int, size: int) -> Iterator[tuple[Any, int]]:
    """Batches of `size` rows, in order; the last one is filled up with copies of its last row.

    Args:
        load: consecutive rows -> a pytree of arrays [n, ...]; called for a batch at a time.
        rows: of all batches.
        size: of each batch.

    Yields:
        A pytree of numpy arrays [size, ...], and how many of its rows are not copies.

    Examples:
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

    Examples:
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


def map_chunks(
    fn: Callable[[Any], Any], xs: Any, chunk: int, axis: int = 0, shards: int = 1
) -> Any:
    """`fn` of the rows of `xs`, at most `chunk` at a time, in one loop.

    Args:
        fn: a pytree of arrays [m, ...] -> a pytree of arrays with m rows along `axis`.
        xs: a pytree of arrays [n, ...].
        chunk: the most rows of a shard at a time.
        axis: where the rows are in what `fn` gives.
        shards: how many devices have a part of the rows each, equal parts in order: a chunk has
            rows of every one, so that none is moved.

    Returns:
        A pytree of arrays with n rows along `axis`.

    Examples:
        >>> import numpy as np
        >>> map_chunks(lambda x: 2 * x, np.arange(5), 2).tolist()
        [0, 2, 4, 6, 8]
    """
    own = _rows(xs) // shards
    if own <= chunk:
        return fn(jax.tree.map(jnp.asarray, xs))

    def joined(out: jax.Array) -> jax.Array:
        before, after = out.shape[1 : axis + 1], out.shape[axis + 2 :]
        out = out.reshape(len(out), *before, shards, -1, *after)
        out = jnp.moveaxis(out, 0, axis + 1)  # [..., shards, rounds, m, ...]
        out = out.reshape(*before, shards, -1, *after)
        out = jax.lax.slice_in_dim(out, 0, own, axis=axis + 1)
        return out.reshape(*before, -1, *after)

    return jax.tree.map(joined, jax.lax.map(fn, _chunks(xs, chunk, shards)[0]))


def fold_chunks(step: Callable[[Any, Any, jax.Array], Any], start: Any, xs: Any, chunk: int) -> Any:
    """`step(total, rows, valid [m])` over the rows of `xs`, at most `chunk` at a time, in one loop.

    Rows that fill up the last chunk are not valid.

    Examples:
        >>> import jax.numpy as jnp
        >>> add = lambda total, x, valid: total + jnp.where(valid, x, 0).sum()
        >>> fold_chunks(add, jnp.asarray(0.0), jnp.arange(5.0), 2).item()
        10.0
    """
    chunks = _chunks(xs, chunk)
    return jax.lax.scan(lambda total, of: (step(total, *of), None), start, chunks)[0]


def _rows(xs: Any) -> int:
    return jax.tree.leaves(xs)[0].shape[0]


def _chunks(xs: Any, chunk: int, shards: int = 1) -> tuple[Any, jax.Array]:
    """[n, ...] as chunks [rounds, shards * m, ...]; False for a copy that fills up the last."""
    rows = _rows(xs) // shards
    rounds = -(-rows // chunk)
    size = -(-rows // rounds)
    copies = rounds * size - rows

    def split(x: Any) -> jax.Array:
        x = jnp.asarray(x).reshape(shards, rows, *x.shape[1:])
        if copies:
            last = jnp.broadcast_to(x[:, -1:], (shards, copies, *x.shape[2:]))
            x = jnp.concatenate([x, last], axis=1)
        x = jnp.moveaxis(x.reshape(shards, rounds, size, *x.shape[2:]), 1, 0)
        return x.reshape(rounds, shards * size, *x.shape[3:])

    valid = jnp.arange(rounds * size).reshape(rounds, size) < rows
    return jax.tree.map(split, xs), jnp.tile(valid, shards)
