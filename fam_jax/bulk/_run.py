"""Maps of any number of pairs: read ahead, compute on every device, write, go on after a stop.

pictures --grain--> chunks --devices--> maps --tensorstore--> store
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from PIL import Image

from fam_jax._core.brief import brief
from fam_jax._core.checks import check_choice, check_count
from fam_jax._core.encoder import Encoder, check_encoder
from fam_jax.bulk._chunks import collect_chunk, feature_inputs, picture_inputs
from fam_jax.bulk._features import FEATURES, EncodedPictures
from fam_jax.bulk._maps import DTYPES, MAPS, map_columns
from fam_jax.bulk._pairs import Grid, TablePairs
from fam_jax.bulk._pictures import Loader, PictureLoader, check_workers
from fam_jax.bulk._programs import DeviceProgram, explain_chunk
from fam_jax.bulk._retry import of_pairs, restored
from fam_jax.bulk._settings import (
    barrier,
    create_group,
    digest,
    missing_chunks,
    on_first_process,
    prepare_store,
)
from fam_jax.bulk._steps import Progress, run_steps
from fam_jax.bulk._zarr import absolute
from fam_jax.io.pictures import Reader, reading
from fam_jax.methods import Method, fam
from fam_jax.methods.method import as_method


class Summary(NamedTuple):
    """What a job came to.

    Attributes:
        pairs: rows of the store.
        invalid: how many of them have no maps; the store says why.
        phases: the last `Progress` of each phase of this run.
    """

    pairs: int
    invalid: int
    phases: tuple[Progress, ...]


def run(
    encode: Encoder,
    pairs: Any,
    store: str | os.PathLike,
    *,
    preprocess: Callable[[Image.Image], np.ndarray] | None = None,
    load: Loader | None = None,
    method: Method | Callable | None = None,
    batch: int = 32,
    size: int | None = None,
    dtype: str = "float16",
    once: bool = False,
    workers: int = 0,
    reader: Reader | None = None,
    retry: bool = True,
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
        store: a folder, or a URL that TensorStore and etils know (gs://bucket/folder); read it
            with `open_store`.
        preprocess: an upright RGB picture -> [H, W, c]; with `.region(size)`, what it sees of it.
        load: in the place of `preprocess`, how files that are no pictures are read; see `Loader`.
        method: `fam()` if not given.
        batch: pairs of a chunk: of a device at a time, and of a file.
        size: sides of the stored maps, in pixels; the layer's own grid if not given.
        dtype: of the stored maps: "float16" or "uint8" (between each map's low and high), or
            "float32".
        once: encode each picture once in the whole job and keep its features in the store
            meanwhile, instead of once per chunk; always so for a `grid`. Not for a method that
            reads more of the network than its head.
        workers: processes that read pictures; 0 for threads of this one.
        reader: how pictures are read, if not as `Reader()` reads them; `Reader(convert=False)`
            hands `preprocess` the picture as the file holds it.
        retry: whether rows without maps are computed again where the picture that failed can be
            read now.
        about: plain values to be kept with the store, and asked of whoever goes on with it.
        on_step: called with a `Progress` when a step is written.

    Raises:
        ValueError: the store is of another job (the difference is named), or the table of pairs
            is not in order.
        OSError: the store cannot be written. What is written stays.

    Examples:
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
    check_count("batch", batch)
    if preprocess is not None and load is None:
        load = PictureLoader(preprocess, reader)
    elif preprocess is not None or load is None:
        raise TypeError("run: pass preprocess=, for pictures, or load=Loader(...), for other files")
    pairs = pairs if isinstance(pairs, Grid) else TablePairs(pairs, batch)
    method = fam() if method is None else as_method(method)
    with reading():
        return run_job(
            encode,
            method,
            pairs,
            store,
            load,
            size=size,
            dtype=dtype,
            once=once,
            workers=workers,
            retry=retry,
            about=about,
            on_step=on_step,
        )


def run_job(
    encode: Encoder,
    method: Method,
    pairs: TablePairs | Grid,
    store: str | os.PathLike,
    load: Loader,
    *,
    size: int | None,
    dtype: str,
    about: Mapping[str, Any] | None,
    on_step: Callable[[Progress], None] | None,
    once: bool = False,
    workers: int = 0,
    retry: bool = True,
    kept: EncodedPictures | None = None,
) -> Summary:
    """Arguments as `run`; `kept` are features that are there already."""
    check_encoder(encode)
    check_choice("dtype", dtype, DTYPES)
    check_workers(workers)
    if size is not None:
        check_count("size", size)
    if once and method.needs_images:
        raise ValueError("once: only features of the pictures are kept, and this method reads more")
    once = once or (isinstance(pairs, Grid) and not method.needs_images)
    path, batch, rows = absolute(store), prod(pairs.chunk_shape), prod(pairs.shape)
    explain = partial(explain_chunk, size=size, dtype=dtype)
    row = jax.ShapeDtypeStruct((1,), np.int32)
    inputs = {"images": load.batch_shape(2), "query": row, "reference": row}
    outputs = jax.eval_shape(explain, (encode, method), inputs)
    shapes = {name: outputs[name].shape[1:] for name in MAPS}
    settings = {
        "asked": {
            **(about or {}),
            **load.facts(),
            **pairs.facts(),
            "layer": encode.at,
            "gates": encode.gates,
            "parameters_sha256": digest((encode, method)),
            "method": brief(method),
            "input": f"{load.dtype} {list(load.shape)}",
            "map_dtype": dtype,
            "map_side": size,
            "batch": batch,
            "once": once,
        },
        "shape": list(pairs.shape),
        "chunk_shape": list(pairs.chunk_shape),
        "map_shapes": [list(shape) for shape in shapes.values()],
    }
    prepare_store(path, settings, pairs.FILES, pairs.save)
    group = create_group(path, pairs.shape, pairs.chunk_shape, map_columns(dtype, shapes))
    missing, features, phases = missing_chunks(group), epath.Path(path) / FEATURES, []
    stored = pairs.reopen(epath.Path(path))
    if retry:
        missing = np.union1d(missing, restored(group, load, of_pairs(stored)))
    if len(missing):
        if once and kept is None:
            pictures = stored.pictures()
            kept = EncodedPictures(encode, load, batch, FEATURES)
            kept.create(str(features), len(pictures))
            wanted = {path for chunk in missing.tolist() for path in stored.chunk(chunk).pictures}
            phases.append(kept.fill(pictures, workers, on_step, only=wanted))
            barrier("features")
        if kept is None:
            inputs = partial(picture_inputs, pairs=stored, load=load, workers=workers)
        else:
            inputs = partial(feature_inputs, pairs=stored, kept=kept)
        program, collect = DeviceProgram(explain, (encode, method)), partial(collect_chunk, group)
        phases.append(run_steps("pairs", rows, group, missing, program, inputs, collect, on_step))
    barrier("pairs")
    on_first_process(lambda: features.rmtree(missing_ok=True))
    return Summary(rows, group.count_invalid(), tuple(phases))
