"""`explain_all` of images that are sharded over devices: none is moved to another one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fam_jax
from fam_jax._core.chunks import map_chunks
from fam_jax._core.mesh import shards
from fam_jax.methods import explain

WEIGHTS = jax.random.normal(jax.random.key(0), (3, 16))
ENCODE = fam_jax.encoder(lambda x: jnp.tanh(x @ WEIGHTS), lambda A: A.mean((1, 2)))
QUERIES, REFERENCES = (jax.random.normal(jax.random.key(i), (32, 4, 4, 3)) for i in (1, 2))
MOVES = r"= \S+ (all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter)"


def program(queries, references, method):
    """The compiled text of what `explain_all` runs on every device."""
    encoders, method = explain._check_both(ENCODE, method)
    fn = explain._explain_all_images if "other" in method.needs else explain._explain_all
    sizes = (2, shards(queries), shards(references))
    return fn.lower(encoders, queries, references, method, sizes=sizes).compile().as_text()


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(("q", "r"), [("a", "b"), (("a", "b"), None), (None, ("a", "b"))])
def test_nothing_is_gathered(kind, q, r):
    """Queries, references or both lie on a mesh: no collective, and the maps lie as they do."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(kind, kind))
    queries, references = (
        jax.device_put(x, NamedSharding(mesh, P(axes)))
        for x, axes in ((QUERIES, q), (REFERENCES, r))
    )
    for method in (fam_jax.fam(), fam_jax.interaction_cam()):
        expected = fam_jax.explain_all(ENCODE, QUERIES, REFERENCES, method, chunk=2)
        out = fam_jax.explain_all(ENCODE, queries, references, method, chunk=2)
        np.testing.assert_allclose(out.maps, expected.maps, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(out.scores, expected.scores, rtol=1e-5, atol=1e-6)
        assert out.maps.sharding.shard_shape(out.maps.shape)[:2] == tuple(
            32 // shards(x) for x in (queries, references)
        )
        assert not re.search(MOVES, program(queries, references, method))


def test_the_rows_of_shards_keep_their_order():
    """Chunks across shards, the last of them filled up, give each row its own result."""
    x = np.arange(40.0, dtype=np.float32)
    for chunk in (1, 2, 3, 5):
        for axis in (0, 1):
            fn = lambda x, axis=axis: 2 * jnp.expand_dims(x, 1 - axis)  # noqa: E731
            found = map_chunks(fn, x, chunk, axis=axis, shards=8)
            np.testing.assert_array_equal(found, 2 * np.expand_dims(x, 1 - axis))
