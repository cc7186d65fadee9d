"""Encoders that are made anew: of a module they share their programs, and memory stays flat."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import fam_jax
from tests.programs import counted


class Net(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))

    def __call__(self, images):
        return nnx.relu(self.conv(images)).mean((1, 2))


def explained(encode, images):
    return fam_jax.explain(encode, images, jnp.ones((1, 4))).maps


def live():
    """Arrays and compiled programs that the process holds."""
    gc.collect()
    client = jax.devices()[0].client
    return len(client.live_arrays()), len(client.live_executables())


def test_200_captures_of_a_module_compile_once_and_hold_nothing():
    model, images = Net(), jnp.ones((1, 8, 8, 3))
    run, traces = counted(explained)
    for _ in range(3):
        run(fam_jax.capture(model, at="conv"), images)
        explained(fam_jax.capture(model, at="conv"), images)
    before = live()
    for _ in range(200):
        run(fam_jax.capture(model, at="conv"), images)
        explained(fam_jax.capture(model, at="conv"), images)
    assert len(traces) == 1
    np.testing.assert_array_equal(live(), before)


def test_a_function_that_is_defined_once_compiles_once():
    """With new parameters by a partial; one that is made anew is another function."""
    from functools import partial

    images, run_traces = jnp.ones((1, 8, 8, 3)), counted(explained)
    run, traces = run_traces

    def embed(kernel, images):
        return fam_jax.tap(images @ kernel, "layer").mean((1, 2))

    for i in range(5):
        run(fam_jax.capture(partial(embed, jnp.full((3, 4), i + 1.0)), at="layer"), images)
    assert len(traces) == 1
    for i in range(2):
        kernel = jnp.full((3, 4), i + 1.0)
        run(fam_jax.capture(lambda x, k=kernel: embed(k, x), at="layer"), images)
    assert len(traces) == 3
