"""`MapLogger` on signals, volumes and token ids: raw maps are kept, and something is shown."""

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax.training import MapLogger, strip
from fam_jax.training._flat import flat_map, flat_pictures
from tests.close import assert_close

pytest.importorskip("tensorboardX", reason="needs the train extra")
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(9, 3)).astype(np.float32)


def network(x):
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(TABLE)[x]
    x = fam_jax.tap(x, "layer")
    return x.mean(tuple(range(1, x.ndim - 1)))


@pytest.mark.parametrize(
    "inputs",
    [
        RNG.normal(size=(2, 16, 3)).astype(np.float32),
        RNG.normal(size=(2, 4, 5, 6, 3)).astype(np.float32),
        RNG.integers(0, 9, (2, 7)),
    ],
    ids=["signals", "volumes", "ids"],
)
def test_maps_of_any_inputs_are_logged(tmp_path, inputs):
    method = fam_jax.decomposition()
    with MapLogger(tmp_path, inputs, inputs[::-1], at="layer", every=1, method=method) as log:
        log(0, network)
    written = np.load(tmp_path / "maps" / "step-00000000.npz")
    encode = fam_jax.capture(network, at="layer")
    out = fam_jax.explain_pairs(encode, inputs, inputs[::-1], method)
    assert_close(written["query_maps"], out.query_maps)
    assert len(strip(tmp_path).axes) == 1


def test_what_is_shown_of_them():
    """The value of the largest magnitude along a line of sight; ink where a signal runs."""
    volume = RNG.normal(size=(3, 4, 5))
    by_loops = np.empty((4, 5))
    for i, j in np.ndindex(4, 5):
        by_loops[i, j] = max(volume[:, i, j], key=abs)
    np.testing.assert_array_equal(flat_map(volume), by_loops)
    assert flat_map(volume[0, 0]).shape == (1, 5)
    (rising,) = flat_pictures(np.arange(8, dtype=np.float32)[None, :, None])
    left, right = np.argwhere(rising[:, 20] < 1).mean(), np.argwhere(rising[:, -20] < 1).mean()
    assert left > right  # rows count from the top
