"""A gallery's embeddings in a store, and the exact nearest of them, found on every device."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from fam_jax._core.brief import legible
from fam_jax._core.checks import check_count
from fam_jax._core.encoder import Encoder, check_encoder
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.bulk import _tables
from fam_jax.bulk._attributes import check_settings, read_settings
from fam_jax.bulk._background import stand_ins
from fam_jax.bulk._features import EMBEDDINGS, EncodedPictures
from fam_jax.bulk._pictures import PictureLoader, check_workers
from fam_jax.bulk._retry import of_pictures, restored
from fam_jax.bulk._search import check_queries, nearest
from fam_jax.bulk._settings import barrier, digest, prepare_store
from fam_jax.bulk._steps import Progress
from fam_jax.bulk._zarr import STATUS_COLUMNS, Column, Group, StoreError, absolute, decode_text
from fam_jax.io.pictures import Reader, reading
from fam_jax.store import INVALID, NOT_DONE, VALID

_PICTURES = "pictures.parquet"
_READ_ROWS = 8192  # at a time


class IndexSummary(NamedTuple):
    """What indexing came to.

    Attributes:
        pictures: rows of the index.
        invalid: how many of them could not be read.
        progress: the last one of this run.
    """

    pictures: int
    invalid: int
    progress: Progress


def index(
    encode: Encoder,
    pictures: Sequence[str | os.PathLike],
    store: str | os.PathLike,
    *,
    preprocess: Callable[[Image.Image], np.ndarray],
    batch: int = 32,
    workers: int = 0,
    reader: Reader | None = None,
    retry: bool = True,
    about: Mapping[str, Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> IndexSummary:
    """Embed pictures into a store, on every device; the same call goes on after a stop.

    Arguments as `run`, of `pictures` at these paths; read the store with `open_index`.

    Examples:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> import fam_jax
        >>> from fam_jax import bulk
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> paths = [str(folder / f"{i}.png") for i in range(3)]
        >>> for i, path in enumerate(paths):
        ...     Image.new("RGB", (32, 32), (80 * i, 90, 200)).save(path)
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> to_array = lambda picture: np.asarray(picture.resize((8, 8)), np.float32) / 255
        >>> _ = bulk.index(encode, paths, folder / "gallery", preprocess=to_array)
        >>> gallery = bulk.open_index(folder / "gallery")
        >>> scores, rows = gallery.search(np.array([[0.6, 0.4, 0.8]]), k=2)
        >>> rows.tolist()
        [[2, 1]]
    """
    check_encoder(encode)
    check_count("batch", batch)
    if not pictures:
        raise ValueError("pictures: none are given")
    pictures = _tables.as_paths(pictures)
    check_workers(workers)
    batch = min(batch, len(pictures))
    path, load = absolute(store), PictureLoader(preprocess, reader)
    gallery = EncodedPictures(encode, load, batch, EMBEDDINGS)
    settings = {
        "asked": {
            **(about or {}),
            **load.facts(),
            "layer": encode.at,
            "gates": encode.gates,
            "parameters_sha256": digest(encode),
            "input": f"{load.dtype} {list(load.shape)}",
            "batch": batch,
            "pictures": len(pictures),
            "pictures_sha256": sha256("\n".join(pictures).encode()).hexdigest(),
        },
        "columns": {EMBEDDINGS: list(gallery.columns[EMBEDDINGS].tail)},
    }

    def save(folder: epath.Path) -> None:
        _tables.write(folder / _PICTURES, pictures)

    prepare_store(path, settings, [_PICTURES], save)
    gallery.create(path, len(pictures))
    with reading():
        again = restored(gallery.group, load, of_pictures(pictures)) if retry else None
        progress = gallery.fill(pictures, workers, on_step, again=again)
    barrier("indexed")
    return IndexSummary(len(pictures), gallery.group.count_invalid(), progress)


class Index:
    """A gallery's embeddings; made by `open_index`.

    Attributes:
        path: where it is.
        settings: what it was made with.
    """

    def __init__(self, path: str, settings: dict[str, Any], partial: bool = False) -> None:
        check_settings(path, settings, ("pictures", "batch", "parameters_sha256"))
        check_settings(path, {"asked": settings["columns"]}, (EMBEDDINGS,))
        self.path, self.settings, self._partial = path, settings["asked"], partial
        columns = {EMBEDDINGS: Column("float32", tuple(settings["columns"][EMBEDDINGS]))}
        shape, chunk_shape = (self.settings["pictures"],), (self.settings["batch"],)
        if (there := _tables.count(epath.Path(path) / _PICTURES)) != shape[0]:
            raise StoreError(
                f"{legible(path)} is damaged: its zarr.json says {shape[0]} pictures, its table "
                f"{there}"
            )
        self._group = Group(path, shape, chunk_shape, columns | STATUS_COLUMNS)

    def __len__(self) -> int:
        return self._group.shape[0]

    @cached_property
    def pictures(self) -> list[str]:
        """The gallery's paths."""
        return _tables.read(epath.Path(self.path) / _PICTURES)

    def embeddings(self, rows: slice = slice(None)) -> np.ndarray:
        """Embeddings [n, d]; zeros where a picture could not be read."""
        self.check_finished()
        return self._group.read(EMBEDDINGS, rows)

    def status(self, rows: slice = slice(None)) -> np.ndarray:
        """Of every row: 0 not done, 1 valid, 2 not valid."""
        return self._group.read_status()[rows]

    def check_finished(self) -> np.ndarray:
        """The status of every row.

        ValueError if some pictures are missing, unless the index was opened with `partial`.
        """
        status = self.status()
        missing = int(np.sum(status == NOT_DONE))
        if missing and not self._partial:
            raise ValueError(
                f"{legible(self.path)} is unfinished: {missing:,} of its {len(self):,} pictures "
                "are missing; index them by the command that began it, or ask what is there: "
                "--partial, or open_index(partial=True)"
            )
        return status

    def reasons(self) -> dict[int, str]:
        """Why rows are not valid."""
        bad = np.flatnonzero(self.status() == INVALID)
        return dict(zip(bad.tolist(), decode_text(self._group.read("reason", bad)), strict=True))

    def background(self, similarity: Similarity = cosine) -> np.ndarray:
        """Two embeddings [2, d] that stand for the whole gallery as the background of a `margin`.

        The margin over these is the margin over all pictures of the gallery, however many. Over
        all but a hit it is N / (N - 1) times that on the query's side: the same map.

        Args:
            similarity: `cosine`, `dot` or `euclidean`.
        """
        status = self.check_finished()

        def parts() -> Iterator[np.ndarray]:
            for start in range(0, len(self), _READ_ROWS):
                rows = slice(start, min(start + _READ_ROWS, len(self)))
                yield self._group.read(EMBEDDINGS, rows)[status[rows] == VALID]

        return stand_ins(similarity, parts())

    def search(
        self, queries: Any, k: int, similarity: Similarity = cosine
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar rows of the gallery, exactly; the first of equal ones wins.

        The gallery is read a part at a time, spread over the devices of all processes; each finds
        its own best, of which the best are kept. Scores are bit for bit the same on any number of
        either. In a job of several processes all of them call this, and get the same.

        Args:
            queries: embeddings [q, d].
            k: how many; at most the pictures that could be read.
            similarity: `cosine`, `dot`, `euclidean` or your own.

        Returns:
            Scores [q, k], falling, and rows [q, k].
        """
        (d,) = self._group.columns[EMBEDDINGS].tail
        queries = check_queries(queries, d)
        status = self.check_finished()
        valid = int(np.sum(status == VALID))
        if not 1 <= k <= valid:
            raise ValueError(f"k: expected 1 to {valid}, the pictures of the gallery, got {k}")

        def load(rows: slice) -> tuple[np.ndarray, np.ndarray]:
            numbers = np.arange(rows.start, rows.stop, dtype=np.int32)
            bank = self._group.read(EMBEDDINGS, rows)
            return bank, np.where(status[rows] == VALID, numbers, -1)

        return nearest(queries, load, len(self), k, similarity)


def open_index(path: str | os.PathLike, *, partial: bool = False) -> Index:
    """Read an index that `index` made; FileNotFoundError if there is none.

    An unfinished one is not searched, unless it is opened as a `partial` one.
    """
    path = absolute(path)
    settings = read_settings(path)
    if settings is None:
        raise FileNotFoundError(f"no index at {legible(path)}; fam-jax index makes one")
    if "columns" not in settings:
        raise ValueError(f"{legible(path)} is a store of maps, not an index")
    return Index(path, settings, partial)
