"""Maps of any number of pairs: read ahead, compute on every device, write, go on after a stop.

pictures --grain--> chunks --devices--> maps --tensorstore--> store
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from fam_jax._core.encoding import Encoder
from fam_jax.bulk.drive import Progress
from fam_jax.bulk.job import Job, Summary
from fam_jax.bulk.loading import quiet
from fam_jax.methods import Method, PairMethod


def run(
    encode: Encoder,
    pairs: Any,
    store: str | os.PathLike,
    *,
    preprocess: Callable[[Image.Image], np.ndarray],
    method: Method | PairMethod | None = None,
    batch: int = 32,
    size: int | None = None,
    dtype: str = "float16",
    once: bool = False,
    workers: int = 0,
    about: Mapping[str, Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Summary:
    r"""Explain every pair on both pictures, into a store; the same call goes on after a stop.

    Every device of every process computes `batch` pairs at a time, without communication, by one
    compiled program. A picture that cannot be read makes its rows invalid, with a reason, and
    stops nothing. Bit for bit, the store does not depend on stops and on how many devices or
    processes there were.

    Args:
        encode: from `fam_jax.capture`.
        pairs: a .csv, .jsonl or .parquet file with the columns query, reference and perhaps id
            and label (pictures relative to its folder); rows (query, reference) or dicts; or
            every pair of two lists, from `grid`.
        store: a folder, or a URL that TensorStore and etils know (gs://bucket/folder).
        preprocess: an upright RGB picture -> [H, W, c]; with `.region(size)`, what it sees of it.
        method: `fam()` if not given; also a `PairMethod`.
        batch: pairs of a chunk: of a device at a time, and of a file.
        size: side of the stored maps, in pixels; the layer's own grid if not given.
        dtype: of the stored maps: "float16" or "uint8" (between each map's low and high), or
            "float32".
        once: encode each picture once in the whole job and keep its features in the store
            meanwhile, instead of once per chunk; always so for a `grid`.
        workers: processes that read pictures; 0 for threads of this one.
        about: plain values to be kept with the store, and asked of whoever goes on with it.
        on_step: called with a `Progress` when a step is written.

    Returns:
        `Summary`; read the store with `open_store`.

    Raises:
        ValueError: one line: the store is of another job (the difference is named), the table of
            pairs is not in order, an unknown option.
        OSError: one line: the store cannot be written. What is written stays.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> import fam_jax
        >>> from fam_jax import bulk
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "b.png"):
        ...     Image.effect_noise((32, 32), 50).save(folder / name)
        >>> _ = (folder / "pairs.csv").write_text("query,reference\na.png,b.png\nb.png,c.png\n")
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> to_array = lambda picture: np.asarray(picture.resize((8, 8)), np.float32) / 255
        >>> done = bulk.run(
        ...     encode, folder / "pairs.csv", folder / "store", preprocess=to_array, batch=2
        ... )
        >>> done.pairs, done.invalid
        (2, 1)
        >>> good, bad = bulk.open_store(folder / "store").rows([0, 1])
        >>> good.query_map.shape, bad.reason.startswith("reference: no such file")
        ((8, 8), True)
    """
    job = Job.of(encode, pairs, store, preprocess, method, batch, size, dtype, once, about)
    with quiet():
        return job.run(workers, on_step)
