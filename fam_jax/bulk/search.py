"""A gallery of embeddings, and the exact nearest of them, found on every device."""

from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fam_jax._core.similarity import Similarity, cosine
from fam_jax.bulk import tables
from fam_jax.bulk.paths import absolute
from fam_jax.bulk.store import (
    INVALID,
    STATUS,
    VALID,
    Column,
    Group,
    decode_text,
    read_settings,
    wait,
)

PICTURES = "pictures.parquet"
_SLAB = 8192  # rows of a device at a time


class Index:
    """A gallery's embeddings; made by `open_index`.

    Attributes:
        path: where it is.
        settings: what it was made with.
    """

    def __init__(self, path: str, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings["asked"]
        tail = tuple(settings["columns"]["embeddings"])
        self._group = Group(
            path, (self.settings["pictures"],), (self.settings["batch"],),
            {"embeddings": Column("float32", tail), **STATUS},
        )  # fmt: skip

    def __len__(self) -> int:
        return self._group.shape[0]

    @cached_property
    def pictures(self) -> list[str]:
        """The gallery's paths."""
        return tables.read(epath.Path(self.path) / PICTURES, "path")

    def embeddings(self, rows: slice = slice(None)) -> np.ndarray:
        """Embeddings [n, d]; zeros where a picture could not be read."""
        return wait(self._group.read("embeddings", rows), doing=f"read {self.path}")[0]

    def status(self, rows: slice = slice(None)) -> np.ndarray:
        """Of every row: 0 not done, 1 valid, 2 not valid."""
        return wait(self._group.read("status", rows), doing=f"read {self.path}")[0]

    def reasons(self) -> dict[int, str]:
        """Why rows are not valid."""
        bad = np.flatnonzero(self.status() == INVALID)
        if not len(bad):
            return {}
        texts = wait(self._group.read("reason", (bad,)), doing=f"read {self.path}")[0]
        return dict(zip(bad.tolist(), decode_text(texts), strict=True))

    def search(
        self, queries: Any, k: int, similarity: Similarity = cosine
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar rows of the gallery, exactly; the first of equal ones wins.

        The gallery is read a slab at a time and spread over the devices; each finds its own best,
        of which the best are kept.

        Args:
            queries: embeddings [q, d].
            k: how many.
            similarity: `cosine`, `dot`, `euclidean` or your own.

        Returns:
            Scores [q, k], falling, and rows [q, k].

        Raises:
            ValueError: other dimensions, or k outside 1 .. the pictures that could be read.
        """
        queries = jnp.asarray(queries, jnp.float32)
        d = self._group.columns["embeddings"].tail[0]
        if queries.ndim != 2 or queries.shape[1] != d:
            raise ValueError(f"queries: expected embeddings [q, {d}], got shape {queries.shape}")
        valid = int(np.sum(self.status() == VALID))
        if not 1 <= k <= valid:
            raise ValueError(f"k: expected 1 to {valid}, the pictures of the gallery, got {k}")
        devices = jax.local_devices()
        mesh = Mesh(np.array(devices), ("gallery",))
        spread = NamedSharding(mesh, PartitionSpec("gallery"))
        height = max(k, min(_SLAB, -(-len(self) // len(devices))))
        best = (
            jnp.full((len(queries), k), -jnp.inf), jnp.full((len(queries), k), -1, jnp.int32)
        )  # fmt: skip
        slab = height * len(devices)
        for start in range(0, len(self), slab):
            rows = slice(start, min(start + slab, len(self)))
            missing = start + slab - rows.stop
            bank = np.pad(self.embeddings(rows), ((0, missing), (0, 0)))
            usable = np.pad(self.status(rows) == VALID, (0, missing))
            numbers = np.arange(start, start + slab, dtype=np.int32)
            put = partial(jax.device_put, device=spread)
            best = _better(best, queries, put(bank), put(usable), put(numbers), similarity, mesh)
        return np.asarray(best[0]), np.asarray(best[1])


@partial(jax.jit, static_argnames="mesh")
def _better(best, queries, bank, usable, numbers, similarity, mesh):
    """The best of what is known and of a slab of the gallery."""
    k = best[0].shape[1]

    def own(queries, bank, usable, numbers):
        score = lambda q: similarity.score(jnp.broadcast_to(q, bank.shape), bank)  # noqa: E731
        scores = jax.lax.map(score, queries)
        scores = jnp.where(usable[None] & jnp.isfinite(scores), scores, -jnp.inf)
        values, at = jax.lax.top_k(scores, k)
        return values[None], numbers[at][None]

    part, whole = PartitionSpec("gallery"), PartitionSpec()
    values, rows = jax.shard_map(
        own, mesh=mesh, in_specs=(whole, part, part, part), out_specs=part, check_vma=False
    )(queries, bank, usable, numbers)
    # Rows before rows: of equal scores `top_k` takes the first.
    values = jnp.concatenate([best[0], jnp.moveaxis(values, 0, 1).reshape(len(queries), -1)], 1)
    rows = jnp.concatenate([best[1], jnp.moveaxis(rows, 0, 1).reshape(len(queries), -1)], 1)
    values, at = jax.lax.top_k(values, k)
    return values, jnp.take_along_axis(rows, at, axis=1)


def open_index(path: Any) -> Index:
    """Read an index that `index` made.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a store of something else.
    """
    path = absolute(path)
    settings = read_settings(path)
    if settings is None:
        raise FileNotFoundError(f"no index at {path}; fam-jax index makes one")
    if "columns" not in settings:
        raise ValueError(f"{path} is a store of maps, not an index")
    return Index(path, settings)
