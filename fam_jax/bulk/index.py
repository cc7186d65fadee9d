"""Embeddings of a gallery in a store: every picture once, on every device."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from fam_jax._core.checks import check_count
from fam_jax._core.encoding import Encoder
from fam_jax.bulk import cluster, tables
from fam_jax.bulk.claim import claim, digest
from fam_jax.bulk.drive import Progress
from fam_jax.bulk.encode_once import columns, encode_pictures
from fam_jax.bulk.loading import Load, quiet
from fam_jax.bulk.paths import absolute
from fam_jax.bulk.search import PICTURES
from fam_jax.bulk.store import INVALID, Group


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
    pictures: Sequence[str],
    store: Any,
    *,
    preprocess: Callable[[Image.Image], np.ndarray],
    batch: int = 32,
    workers: int = 0,
    about: Mapping[str, Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> IndexSummary:
    """Embed pictures into a store, on every device; the same call goes on after a stop.

    Args:
        encode: from `fam_jax.capture`.
        pictures: their paths.
        store: a folder or a URL.
        preprocess: as for `run`, like all that follows.
        batch: pictures of a device at a time, and of a file.
        workers: processes that read pictures.
        about: plain values to be kept with the store.
        on_step: called when a step is written.

    Returns:
        `IndexSummary`; open the store with `open_index`.

    Raises:
        ValueError: one line: the store is of another job; no pictures.
        OSError: one line: the store cannot be written.

    Example:
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
    check_count("batch", batch)
    if not pictures:
        raise ValueError("pictures: none are given")
    path, load = absolute(store), Load(preprocess)
    kept = columns(encode, load, batch, "embeddings")
    settings = {
        "asked": {
            **(about or {}),
            "layer": encode.at,
            "parameters_sha256": digest(encode),
            "input": f"{load.dtype} {list(load.shape)}",
            "batch": batch,
            "pictures": len(pictures),
            "pictures_sha256": sha256("\n".join(pictures).encode()).hexdigest(),
        },
        "columns": {"embeddings": list(kept["embeddings"].tail)},
    }

    def save(folder: epath.Path) -> None:
        tables.write(folder / PICTURES, {"path": list(pictures)})

    claim(path, settings, tables.names(PICTURES), save)
    group = partial(Group, path, (len(pictures),), (batch,), kept, write=True)
    cluster.first(group)
    group = group()
    with quiet():
        progress = encode_pictures(
            group, pictures, encode, load, keep="embeddings", workers=workers, on_step=on_step,
        )  # fmt: skip
    cluster.meet("indexed")
    bad = sum(int(np.sum(status == INVALID)) for _, status in group.each("status"))
    return IndexSummary(len(pictures), bad, progress)
