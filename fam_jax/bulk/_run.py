"""Maps of any number of pairs: read ahead, compute on every device, write, go on after a stop.

pictures --grain--> chunks --devices--> maps --tensorstore--> store
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from PIL import Image

from fam_jax._core.checks import check_choice, check_count
from fam_jax._core.encoder import Encoder
from fam_jax.bulk._chunks import collect_chunk, feature_inputs, picture_inputs
from fam_jax.bulk._features import (
    as_features,
    create_group,
    encode_pictures,
    missing_chunks,
    picture_columns,
)
from fam_jax.bulk._maps import DTYPES, MAPS, map_columns
from fam_jax.bulk._pairs import Grid, Pairs, TablePairs, table_pairs
from fam_jax.bulk._pictures import PictureLoader
from fam_jax.bulk._programs import DeviceProgram, explain_chunk
from fam_jax.bulk._settings import barrier, describe, digest, on_first_process, prepare_store
from fam_jax.bulk._steps import ChunkSchedule, Progress, StepInputs, run_steps
from fam_jax.bulk._zarr import Column, Group, absolute
from fam_jax.io.pictures import no_size_warnings
from fam_jax.methods import Method, fam
from fam_jax.methods.method import as_method
from fam_jax.store import INVALID

FEATURES = "features"  # what is kept of each picture until the job is done


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


@dataclass(frozen=True, eq=False)
class Job:
    """Some pairs, a network and a method, and the store that they belong to; see `run`."""

    encode: Encoder
    method: Method
    pairs: TablePairs | Grid
    path: str
    load: PictureLoader
    size: int | None
    dtype: str
    once: bool
    columns: dict[str, Column]
    settings: dict[str, Any]

    @classmethod
    def create(
        cls, encode, pairs, store, preprocess, method, batch, size, dtype, once=False, about=None
    ) -> "Job":
        """A job as `run` is asked for it, checked."""
        if not isinstance(encode, Encoder):
            raise TypeError(
                "encode: expected fam_jax.capture(model, at=layer), or fam_jax.encoder, got "
                f"{type(encode).__name__}"
            )
        method = fam() if method is None else as_method(method)
        check_choice("dtype", dtype, DTYPES)
        check_count("batch", batch)
        if size is not None:
            check_count("size", size)
        path = absolute(store)
        pairs = pairs if isinstance(pairs, Grid) else table_pairs(pairs, batch)
        if once and method.needs_images:
            raise ValueError(
                "once: only features of the pictures are kept, and this method reads more"
            )
        once = once or (isinstance(pairs, Grid) and not method.needs_images)
        load = PictureLoader(preprocess)
        inputs = {
            "images": load.batch_shape(2),
            "query": jax.ShapeDtypeStruct((1,), np.int32),
            "reference": jax.ShapeDtypeStruct((1,), np.int32),
        }
        outputs = jax.eval_shape(
            partial(explain_chunk, size=size, dtype=dtype), encode, method, inputs
        )
        shapes = {name: outputs[name].shape[1:] for name in MAPS}
        settings = {
            "asked": {
                **(about or {}),
                **pairs.facts(),
                "layer": encode.at,
                "parameters_sha256": digest((encode, method)),
                "method": describe(method),
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
        columns = map_columns(dtype, shapes)
        return cls(encode, method, pairs, path, load, size, dtype, once, columns, settings)

    def run(
        self,
        workers: int = 0,
        on_step: Callable[[Progress], None] | None = None,
        kept: tuple[Group, Sequence[str]] | None = None,
    ) -> Summary:
        """Do what is missing; `kept` are features that are there already, and of what."""
        prepare_store(self.path, self.settings, self.pairs.FILES, self.pairs.save)
        group = create_group(self.path, self.pairs.shape, self.pairs.chunk_shape, self.columns)
        missing = missing_chunks(group)
        pairs = self.pairs.reopen(epath.Path(self.path))
        phases, rows = [], prod(self.pairs.shape)
        if len(missing):
            program = self.program()
            schedule = ChunkSchedule(missing, program)
            if self.once and kept is None:
                features, paths, progress = self._keep_features(pairs.pictures(), workers, on_step)
                kept = features, paths
                phases.append(progress)
            inputs = self._inputs(schedule, pairs, workers, kept)
            collect = partial(collect_chunk, group)
            phases.append(
                run_steps("pairs", rows, group, schedule, inputs, program, collect, on_step)
            )
        barrier("pairs")
        bad = on_first_process(lambda: self._finish(group), np.zeros((), np.int64))
        return Summary(rows, int(bad), tuple(phases))

    def program(self) -> DeviceProgram:
        """What every device does with a chunk of pairs."""

        def program(parameters: tuple[Encoder, Method], inputs: Any) -> dict[str, jax.Array]:
            encode, method = parameters
            return explain_chunk(encode, method, inputs, size=self.size, dtype=self.dtype)

        return DeviceProgram(program, (self.encode, self.method), jax.devices())

    def _inputs(
        self,
        schedule: ChunkSchedule,
        pairs: Pairs,
        workers: int,
        kept: tuple[Group, Sequence[str]] | None,
    ) -> Iterator[StepInputs]:
        if kept is None:
            return picture_inputs(schedule, pairs, self.load, workers)
        features, paths = kept
        assemble = partial(as_features, self.encode, self.load)
        return feature_inputs(schedule, pairs, features, paths, assemble)

    def _keep_features(
        self, paths: list[str], workers: int, on_step: Callable[[Progress], None] | None
    ) -> tuple[Group, list[str], Progress]:
        """Encode every picture into a group of the store."""
        batch, path = prod(self.pairs.chunk_shape), f"{self.path}/{FEATURES}"
        columns = picture_columns(self.encode, self.load, batch, FEATURES)
        group = create_group(path, (len(paths),), (batch,), columns)
        progress = encode_pictures(
            group, paths, self.encode, self.load, keep=FEATURES, workers=workers, on_step=on_step
        )
        barrier("features")
        return group, paths, progress

    def _finish(self, group: Group) -> np.ndarray:
        """Remove what is not needed any more; how many rows have no maps."""
        features = epath.Path(self.path) / FEATURES
        if features.exists():
            features.rmtree()
        return np.asarray(group.count_status(INVALID), np.int64)


def run(
    encode: Encoder,
    pairs: Any,
    store: str | os.PathLike,
    *,
    preprocess: Callable[[Image.Image], np.ndarray],
    method: Method | Callable | None = None,
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
        method: `fam()` if not given.
        batch: pairs of a chunk: of a device at a time, and of a file.
        size: side of the stored maps, in pixels; the layer's own grid if not given.
        dtype: of the stored maps: "float16" or "uint8" (between each map's low and high), or
            "float32".
        once: encode each picture once in the whole job and keep its features in the store
            meanwhile, instead of once per chunk; always so for a `grid`. Not for a method that
            reads more of the network than its head.
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
    job = Job.create(encode, pairs, store, preprocess, method, batch, size, dtype, once, about)
    with no_size_warnings():
        return job.run(workers, on_step)
