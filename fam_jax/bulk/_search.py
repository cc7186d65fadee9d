"""The most similar of many embeddings, exactly: a part of them on every device at a time.

Matrix products choose candidates. Those that rounding could have put among the k best are scored
again, by the similarity's own formula, pair by pair: scores and the order of equal ones depend on
no product's order of summation, and on no number of devices or processes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fam_jax._core.checks import check_plain
from fam_jax._core.similarity import (
    Cosine,
    Dot,
    Euclidean,
    Similarity,
    as_similarity,
    cosine,
    normalize,
)

_ROWS = 8192  # of a part
_SPARE = 32  # candidates of a part beyond the k that are asked for
_LAST = np.iinfo(np.int32).max


def search(
    queries: Any, embeddings: Any, k: int, similarity: Similarity = cosine
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of embeddings in memory, exactly; the first of equal ones wins.

    As `Index.search`, of float16 as well: scores are summed in float32.

    Args:
        queries: embeddings [q, d].
        embeddings: [n, d], of numpy.
        k: how many.
        similarity: `cosine`, `dot`, `euclidean` or your own.

    Returns:
        Scores [q, k], falling, and rows [q, k].

    Examples:
        >>> import numpy as np
        >>> from fam_jax import bulk
        >>> embeddings = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> scores, rows = bulk.search(np.array([[1.0, 0.1]]), embeddings, k=2)
        >>> rows.tolist()
        [[0, 1]]
    """
    check_plain("embeddings", embeddings)
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or not jnp.issubdtype(embeddings.dtype, jnp.floating):
        raise ValueError(
            f"embeddings: expected floats [n, d], got {embeddings.dtype} {embeddings.shape}"
        )
    n, d = embeddings.shape
    queries = check_queries(queries, d)
    if not 1 <= k <= n:
        raise ValueError(f"k: expected 1 to {n}, the embeddings there are, got {k}")

    def load(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        return embeddings[rows], np.arange(rows.start, rows.stop, dtype=np.int32)

    return nearest(queries, load, n, k, similarity)


def check_queries(queries: Any, d: int) -> Array:
    """Queries [q, d] in float32; ValueError for another shape."""
    check_plain("queries", queries)
    queries = jnp.asarray(queries, jnp.float32)
    if queries.ndim != 2 or queries.shape[1] != d:
        raise ValueError(f"queries: expected embeddings [q, {d}], got shape {queries.shape}")
    return queries


def nearest(
    queries: Array,
    load: Callable[[slice], tuple[np.ndarray, np.ndarray]],
    rows: int,
    k: int,
    similarity: Similarity,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of all rows: scores [q, k] and numbers [q, k], by score and then by number.

    Each process loads and searches the parts of its own devices; all of them get the result.

    Args:
        queries: [q, d].
        load: some rows -> embeddings [n, d], and their numbers [n]; -1 for a row that is none.
        rows: of all parts.
        k: at most the rows that have numbers.
        similarity: what is to be large.
    """
    similarity, part = as_similarity(similarity), min(max(_ROWS, k + _SPARE), rows)
    devices, own = jax.devices(), jax.process_index()
    local = [i for i, device in enumerate(devices) if device.process_index == own]
    mesh = Mesh(np.array([devices[i] for i in local]), ("parts",))
    parts = np.arange(-(-rows // part))
    steps = np.pad(parts, (0, -len(parts) % len(devices)), constant_values=-1)

    def read(number: int) -> tuple[np.ndarray, np.ndarray]:
        """A part, filled up; of number -1 one in which no row counts."""
        first = max(number, 0) * part
        bank, numbers = load(slice(first, min(first + part, rows) if number >= 0 else 1))
        numbers = numbers if number >= 0 else np.full_like(numbers, -1)
        if missing := part - len(bank):
            bank = np.pad(bank, ((0, missing), (0, 0)))
            numbers = np.pad(numbers, (0, missing), constant_values=-1)
        return bank, numbers

    shape = len(queries), k
    best = waiting = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
    for step in steps.reshape(-1, len(devices))[:, local].tolist():
        shards = [_joined(mesh, arrays) for arrays in zip(*map(read, step), strict=True)]
        found = _best_of_parts(queries, *shards, similarity, k=k, mesh=mesh)
        # Those of the step before, while the devices are at this one.
        best, waiting = _merged(k, best, waiting), found
    best = _merged(k, best, waiting)
    if jax.process_count() > 1:
        best = _merged(k, *zip(*multihost_utils.process_allgather(best), strict=True))
    return best


def _joined(mesh: Mesh, shards: Any) -> Array:
    """An array of which every device of the mesh has one part."""
    arrays = [jax.device_put(x, device) for x, device in zip(shards, mesh.devices, strict=True)]
    shape = (len(shards) * shards[0].shape[0], *shards[0].shape[1:])
    sharding = NamedSharding(mesh, PartitionSpec("parts"))
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def _merged(k: int, *found: Any) -> tuple[np.ndarray, np.ndarray]:
    """The k best of candidates [q, n], by score and then by number; those without one are last."""
    scores, numbers = (np.concatenate(x, axis=1) for x in zip(*found, strict=True))
    order = np.lexsort((np.where(numbers < 0, _LAST, numbers), -scores))[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1)


@partial(jax.jit, static_argnames=("k", "mesh"))
def _best_of_parts(
    queries: Array, bank: Array, numbers: Array, similarity: Similarity, *, k: int, mesh: Mesh
) -> tuple[Array, Array]:
    """The k best of every device's part, side by side: [q, devices k]."""
    part = PartitionSpec("parts")
    return jax.shard_map(
        lambda queries, bank, numbers: _best_of_part(queries, bank, numbers, similarity, k),
        mesh=mesh,
        in_specs=(PartitionSpec(), part, part),
        out_specs=PartitionSpec(None, "parts"),
        check_vma=False,
    )(queries, bank, numbers)


def _best_of_part(
    queries: Array, bank: Array, numbers: Array, similarity: Similarity, k: int
) -> tuple[Array, Array]:
    valid = numbers >= 0
    few = min(k + _SPARE, len(bank))

    def score(query: Array, rows: Array, valid: Array) -> Array:
        rows = rows.astype(jnp.float32)  # here: of few rows that is less than of all
        scores = similarity.score(jnp.broadcast_to(query, rows.shape), rows)
        return jnp.where(valid & jnp.isfinite(scores), scores, -jnp.inf)

    def of_all() -> tuple[Array, Array]:
        scores, at = jax.lax.top_k(jax.lax.map(lambda z: score(z, bank, valid), queries), k)
        return scores, numbers[at]

    if few == len(bank) or not isinstance(similarity, Cosine | Dot | Euclidean):
        return of_all()
    products, error = _products(similarity, queries, bank.astype(jnp.float32), valid)
    values, at = jax.lax.top_k(jnp.where(valid[None], products, -jnp.inf), few)
    # Not by their places: XLA sorts a whole part where only slices of its `top_k` are read.
    lowest, is_kth = jnp.min(values, axis=1), jnp.arange(few)[None] == k - 1
    kth = jnp.max(jnp.where(is_kth, values, -jnp.inf), axis=1)
    # None of the others can be among the k best: it is too low, or there is none.
    sure = (lowest < kth - 2 * error) | jnp.isneginf(lowest)
    known = jnp.all(jnp.isfinite(products) | ~valid[None])

    def of_few() -> tuple[Array, Array]:
        rows = jnp.sort(at, axis=1)  # of equal scores `top_k` takes the first
        again = lambda x: score(x[0], bank[x[1]], valid[x[1]])  # noqa: E731
        scores, best = jax.lax.top_k(jax.lax.map(again, (queries, rows)), k)
        return scores, numbers[jnp.take_along_axis(rows, best, axis=1)]

    return jax.lax.cond(jnp.all(sure) & known, of_few, of_all)


def _products(
    similarity: Similarity, queries: Array, bank: Array, valid: Array
) -> tuple[Array, Array]:
    """Scores [q, n] by a matrix product, and how far two ways of summing them may lie apart [q].

    A sum of d terms is known to d / 2^24 of the sum of their sizes (Higham, "Accuracy and Stability
    of Numerical Algorithms", 2002, section 3.1).
    """
    if isinstance(similarity, Cosine):
        queries, bank = normalize(queries), normalize(bank)
    scores = jnp.matmul(queries, bank.T, precision=jax.lax.Precision.HIGHEST)
    z, b = (jnp.sum(x * x, axis=1) for x in (queries, bank))
    longest = jnp.sqrt(jnp.max(jnp.where(valid, b, 0)))
    if isinstance(similarity, Euclidean):
        scores = 2 * scores - z[:, None] - b[None]
        terms = jnp.square(jnp.sqrt(z) + longest)
    else:
        terms = jnp.sqrt(z) * longest
    return scores, terms * (bank.shape[1] + 16) * 2.0**-23
