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

from fam_jax._core.encoder import Encoder
from fam_jax._core.maps import upsample
from fam_jax.bulk._maps import quantise
from fam_jax.methods import Method
from fam_jax.methods.explain import explain_encodings

_AXIS = "chunks"


def explain_chunk(
    encode: Encoder,
    method: Method,
    inputs: dict[str, Any],
    *,
    size: int | None,
    dtype: str,
) -> dict[str, Array]:
    """Maps for a chunk of pairs; its pictures come as `images`, or as `features`.

    Each picture is encoded once, and a pair is two rows of them; for a method that reads more of
    the network than its head every pair is encoded.
    """
    rows = inputs["query"], inputs["reference"]
    if method.needs_images:
        query, reference = (encode(inputs["images"][some], method) for some in rows)
    else:
        kept = inputs["features"] if "features" in inputs else encode.features(inputs["images"])
        query, reference = (
            encode.from_features(jax.tree.map(lambda x, some=some: x[some], kept)) for some in rows
        )
    *maps, scores, valid = explain_encodings(query, reference, method)
    if size is not None:
        maps = [upsample(m, (size, size)) for m in maps]
    (query_maps, query_range), (reference_maps, reference_range) = (
        quantise(m, dtype) for m in maps
    )
    embeddings = jnp.stack([query.embeddings, reference.embeddings], axis=1)
    return {
        "query_maps": query_maps,
        "reference_maps": reference_maps,
        "ranges": jnp.stack([query_range, reference_range], axis=1),
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
        program: (parameters, a chunk's inputs) -> a chunk's outputs.
        parameters: arrays that every device has whole.
        devices: of all processes.

    Attributes:
        mesh: the devices in a row.
        local: which of them are of this process.
        compiled: (parameters, inputs of a step) -> outputs of a step.
    """

    def __init__(self, program: Callable, parameters: Any, devices: list) -> None:
        self.mesh = Mesh(np.array(devices), (_AXIS,))
        self.local = [i for i, d in enumerate(devices) if d.process_index == jax.process_index()]
        self._split = NamedSharding(self.mesh, PartitionSpec(_AXIS))
        whole = NamedSharding(self.mesh, PartitionSpec())
        self.parameters = jax.tree.map(partial(_replicate, sharding=whole), parameters)
        self.compiled = jax.jit(
            jax.shard_map(
                program,
                mesh=self.mesh,
                in_specs=(PartitionSpec(), PartitionSpec(_AXIS)),
                out_specs=PartitionSpec(_AXIS),
                check_vma=False,
            )
        )

    def __call__(self, inputs: Any) -> Any:
        """Start on a step: inputs are those of this process's chunks, one after another."""
        return self.compiled(self.parameters, self.put(inputs))

    def put(self, inputs: Any) -> Any:
        """The inputs of this process's chunks as arrays on its devices."""
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self._split, x), inputs
        )

    def fetch(self, outputs: Any) -> list[Any]:
        """This process's results of a step, a chunk each."""
        leaves, structure = jax.tree.flatten(outputs)
        parts = [
            [
                np.asarray(s.data)
                for s in sorted(x.addressable_shards, key=lambda s: s.index[0].start)
            ]
            for x in leaves
        ]
        return [jax.tree.unflatten(structure, chunk) for chunk in zip(*parts, strict=True)]


def _replicate(x: Any, sharding: NamedSharding) -> Array:
    """An array that every process has, whole on every device."""
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        data = _replicate(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda part: np.asarray(x[part]))
