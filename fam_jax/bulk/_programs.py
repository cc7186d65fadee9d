"""The programs of a job, one per device, without communication.

encode_chunk     images            -> features, or embeddings
explain_chunk    features of a chunk's pictures, its pairs -> maps, ranges, scores, valid
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fam_jax._core.chunks import map_chunks
from fam_jax._core.encoder import Encoder
from fam_jax._core.encoding import Encoding
from fam_jax._core.maps import upsample
from fam_jax.bulk._maps import MAPS, quantise
from fam_jax.methods import Method
from fam_jax.methods.explain import explain_encodings

_AXIS = "chunks"
_KEPT = 2**30  # bytes of other layers, attention matrices say, that are there at a time


def explain_chunk(
    parameters: tuple[Encoder, Method], inputs: dict[str, Any], *, size: int | None, dtype: str
) -> dict[str, Array]:
    """Maps for a chunk of pairs; its pictures come as `images`, or as `features`.

    Each picture is encoded once, and a pair is two rows of them; for a method that reads more of
    the network than its head every pair is encoded, as many at a time as their layers leave room.
    """
    encode, method = parameters
    rows, maps = (inputs["query"], inputs["reference"]), partial(_maps, size=size, dtype=dtype)
    if method.needs_images:
        images = inputs["images"]

        def explain(rows: tuple[Array, Array]) -> dict[str, Array]:
            return maps(method, *(encode(images[some], method) for some in rows))

        return map_chunks(explain, rows, _pairs_at_a_time(encode, method, images[:1]))
    kept = inputs["features"] if "features" in inputs else encode.features(inputs["images"])
    both = (encode.from_features(jax.tree.map(lambda x, some=some: x[some], kept)) for some in rows)
    return maps(method, *both)


def _pairs_at_a_time(encode: Encoder, method: Method, image: Array) -> int:
    """So many that what the method reads of other layers fits into `_KEPT`; all if none is."""
    layers = jax.eval_shape(lambda x: encode(x, method).layers, image)
    picture = 0 if layers is None else sum(x.size * x.dtype.itemsize for x in layers.values)
    return max(1, _KEPT // max(1, 2 * picture))


def _maps(
    method: Method, query: Encoding, reference: Encoding, *, size: int | None, dtype: str
) -> dict[str, Array]:
    """What is stored of pairs that are encoded."""
    *maps, scores, valid = explain_encodings(query, reference, method)
    if size is not None:
        maps = [upsample(m, (size,) * (m.ndim - 1)) for m in maps]
    stored, ranges = zip(*(quantise(m, dtype) for m in maps), strict=True)
    embeddings = jnp.stack([query.embeddings, reference.embeddings], axis=1)
    return dict(zip(MAPS, stored, strict=True)) | {
        "ranges": jnp.stack(ranges, axis=1),
        "scores": scores.astype(jnp.float32),
        "valid": valid,
        "finite": jnp.all(jnp.isfinite(embeddings), axis=2),
        "nonzero": jnp.any(embeddings != 0, axis=2),
    }


def encode_chunk(encode: Encoder, inputs: dict[str, Any], *, keep: str) -> dict[str, Array]:
    """The features, or the embeddings, of a chunk of pictures."""
    if keep == "embeddings":
        return {"embeddings": encode(inputs["images"]).embeddings.astype(jnp.float32)}
    features = encode.features(inputs["images"])
    return {f"feature{i}": x for i, x in enumerate(features.values)}


class DeviceProgram:
    """A program that every device runs on its own chunk; one compilation, no communication.

    Args:
        program: (parameters, a chunk's inputs) -> a chunk's arrays, by name.
        parameters: arrays that every device has whole.

    Attributes:
        local: which of the devices of all processes are of this one.
        compiled: (parameters, inputs of a step) -> arrays of a step.
    """

    def __init__(self, program: Callable, parameters: Any) -> None:
        self.devices, own = jax.devices(), jax.process_index()
        self.local = [i for i, d in enumerate(self.devices) if d.process_index == own]
        mesh, whole, split = Mesh(self.devices, (_AXIS,)), PartitionSpec(), PartitionSpec(_AXIS)
        self._split = NamedSharding(mesh, split)
        arrays = jax.tree.map(jnp.asarray, parameters)
        self.parameters = jax.make_array_from_process_local_data(NamedSharding(mesh, whole), arrays)
        self.compiled = jax.jit(
            jax.shard_map(
                program, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False
            )
        )

    def schedule(self, chunks: np.ndarray) -> np.ndarray:
        """Chunks [steps, devices], one for each device of all processes; -1 when they run out."""
        n = len(self.devices)
        return np.pad(chunks, (0, -len(chunks) % n), constant_values=-1).reshape(-1, n)

    def __call__(self, inputs: Any) -> dict[str, Array]:
        """Start on a step: inputs are those of this process's chunks, one after another."""
        return self.compiled(self.parameters, self.put(inputs))

    def put(self, inputs: Any) -> Any:
        """The inputs of this process's chunks as arrays on its devices."""
        return jax.make_array_from_process_local_data(self._split, inputs)

    def fetch(self, outputs: dict[str, Array]) -> list[dict[str, np.ndarray]]:
        """This process's results of a step, a chunk each."""
        shards = (sorted(x.addressable_shards, key=_first_row) for x in outputs.values())
        parts = ([np.asarray(shard.data) for shard in x] for x in shards)
        return [dict(zip(outputs, chunk, strict=True)) for chunk in zip(*parts, strict=True)]


def _first_row(shard: jax.Shard) -> int:
    return shard.index[0].start
