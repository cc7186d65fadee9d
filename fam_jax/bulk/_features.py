"""Each picture once: its features, or its embedding, in a group of the store, a row a picture."""

from collections.abc import Callable, Container, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from fam_jax._core.encoder import Encoder
from fam_jax._core.features import Features
from fam_jax.bulk._pictures import Loader, load_pictures
from fam_jax.bulk._programs import DeviceProgram, encode_chunk
from fam_jax.bulk._settings import create_group, missing_chunks
from fam_jax.bulk._steps import Progress, chunk_arrays, run_steps
from fam_jax.bulk._zarr import STATUS_COLUMNS, Column, decode_text

FEATURES, EMBEDDINGS = "features", "embeddings"


class EncodedPictures:
    """What is kept of pictures, in a group.

    Args:
        encode: from `fam_jax.capture`.
        load: a path -> an input of the network.
        batch: pictures of a chunk.
        keep: `FEATURES` or `EMBEDDINGS`.

    Attributes:
        columns: the arrays of the group.
        group: there from `create` on.
        rows: the row of every picture, from `fill` on.
    """

    def __init__(self, encode: Encoder, load: Loader, batch: int, keep: str) -> None:
        self._encode, self._load, self._batch = encode, load, batch
        self._program = partial(encode_chunk, keep=keep)
        outputs = jax.eval_shape(self._program, encode, {"images": load.batch_shape(batch)})
        self._names = list(outputs)
        # Features are large, are read often, and hardly shrink.
        self.columns = {
            name: Column(str(x.dtype), x.shape[1:], compress=keep != FEATURES)
            for name, x in outputs.items()
        }
        self.columns |= STATUS_COLUMNS | {"boxes": Column("float32", (4,))}

    def create(self, path: str, rows: int) -> None:
        """Make the group, of so many rows, or open it where it is."""
        self.group = create_group(path, (rows,), (self._batch,), self.columns)

    def fill(
        self,
        paths: Sequence[str],
        workers: int = 0,
        on_step: Callable[[Progress], None] | None = None,
        *,
        only: Container[str] | None = None,
        again: np.ndarray | None = None,
    ) -> Progress:
        """Encode these pictures into the first rows, unless they are there; see `run_steps`.

        Chunks without one of `only` are left out, those of `again` encoded though they are there.
        """
        self.rows = {path: row for row, path in enumerate(paths)}
        group, batch = self.group, self._batch
        missing = missing_chunks(group)
        missing = missing[missing * batch < len(paths)]
        if only is not None:
            wanted = [
                any(p in only for p in _chunk_paths(paths, batch, c)) for c in missing.tolist()
            ]
            missing = missing[np.array(wanted, bool)]
        if again is not None:
            missing = np.union1d(missing, again)
        program = DeviceProgram(self._program, self._encode)

        def collect(chunk: int, info: Any, result: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            boxes, reasons = (x[: group.chunk_rows(chunk)] for x in info)
            arrays = chunk_arrays(group, result, reasons != "", reasons.tolist())
            return arrays | {"boxes": boxes}

        chunk_paths = partial(_chunk_paths, paths, batch)
        inputs = partial(load_pictures, self._load, rows=batch, paths=chunk_paths, workers=workers)
        return run_steps("pictures", len(paths), group, missing, program, inputs, collect, on_step)

    @cached_property
    def _structure(self) -> Any:
        return jax.tree.structure(jax.eval_shape(self._encode.features, self._load.batch_shape(1)))

    def read(self, rows: Any) -> tuple[Features, np.ndarray, list[str]]:
        """Features of some rows, their boxes, and why pictures could not be read, or ""."""
        arrays = self.group.read_arrays([*self._names, "boxes", "reason"], rows)
        boxes, reasons = arrays.pop("boxes"), decode_text(arrays.pop("reason"))
        return jax.tree.unflatten(self._structure, arrays.values()), boxes, reasons


def _chunk_paths(paths: Sequence[str], batch: int, chunk: int) -> Sequence[str]:
    return paths[chunk * batch : (chunk + 1) * batch]
