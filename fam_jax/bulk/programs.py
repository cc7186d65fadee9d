"""The programs of a job, one per device, without communication.

Encode    images            -> features, embeddings
Explain   features of a chunk's pictures, its pairs -> maps, ranges, scores, valid
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fam_jax._core.encoding import Encoder
from fam_jax._core.maps import upsample
from fam_jax.bulk.quantise import quantise
from fam_jax.methods import Method, PairMethod
from fam_jax.methods.explain import explain_encodings

AXIS = "chunks"


def explain_chunk(
    encode: Encoder, method: Method | PairMethod, inputs: dict[str, Any], *, size, dtype
) -> dict[str, Array]:
    """Maps for a chunk of pairs; its pictures come as `images`, or as `features`.

    Each picture is encoded once; a pair is two rows of them.
    """
    features = inputs["features"] if "features" in inputs else encode.features(inputs["images"])
    pick = lambda rows: encode.from_features(jax.tree.map(lambda x: x[rows], features))  # noqa: E731
    query, reference = pick(inputs["query"]), pick(inputs["reference"])
    *maps, scores, valid = explain_encodings(query, reference, method)
    if size is not None:
        maps = [upsample(m, (size, size)) for m in maps]
    (q, q_range), (r, r_range) = (quantise(m, dtype) for m in maps)
    both = jnp.stack([query.embeddings, reference.embeddings], axis=1)
    return {
        "query_maps": q,
        "reference_maps": r,
        "ranges": jnp.stack([q_range, r_range], axis=1),
        "scores": scores.astype(jnp.float32),
        "valid": valid,
        "finite": jnp.all(jnp.isfinite(both), axis=2),
        "nonzero": jnp.any(both != 0, axis=2),
    }


def encode_chunk(encode: Encoder, inputs: dict[str, Any], *, keep: str) -> dict[str, Array]:
    """The features, or the embeddings, of a chunk of pictures."""
    if keep == "embeddings":
        z = encode(inputs["images"]).embeddings.astype(jnp.float32)
        return {"embeddings": z}
    features = encode.features(inputs["images"])
    return {f"feature{i}": x for i, x in enumerate(features.values)}


class Spread:
    """A program run by every device on its own chunk; one compilation, no communication.

    Args:
        program: (parameters, a chunk's inputs) -> a chunk's outputs.
        parameters: arrays that every device has whole.
        devices: of all processes.
    """

    def __init__(self, program: Callable, parameters: Any, devices: list) -> None:
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self.local = [i for i, d in enumerate(devices) if d.process_index == jax.process_index()]
        self._split = NamedSharding(self.mesh, PartitionSpec(AXIS))
        whole = NamedSharding(self.mesh, PartitionSpec())
        self._parameters = jax.tree.map(partial(_everywhere, sharding=whole), parameters)
        self.compiled = jax.jit(
            jax.shard_map(
                program,
                mesh=self.mesh,
                in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
                out_specs=PartitionSpec(AXIS),
                check_vma=False,
            )
        )

    def __call__(self, inputs: Any) -> Any:
        """Start on a step: inputs are those of this process's chunks, one after another."""
        arrays = jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self._split, x), inputs
        )
        return self.compiled(self._parameters, arrays)

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


def _everywhere(x: Any, sharding: NamedSharding) -> Array:
    """An array that every process has, whole on every device."""
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        data = _everywhere(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda part: np.asarray(x[part]))
