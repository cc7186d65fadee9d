"""Rank correlations against SciPy; shuffled parameters keep everything but their places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from fam_jax.metrics import randomised, spearman

RNG = np.random.default_rng(0)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(6, 6, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        x = self.norm(self.first(x), use_running_average=True)
        return self.blocks[1](self.blocks[0](x))


@pytest.mark.parametrize("values", [None, 3])
def test_spearman_is_scipys(values):
    """With ties (three values in all), too."""
    a, b = RNG.normal(size=(2, 4, 5, 6))
    if values:
        a, b = np.floor(values * scipy.stats.norm.cdf([a, b]))
    found = spearman(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    expected = [scipy.stats.spearmanr(x.ravel(), y.ravel())[0] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_spearman_sees_order_only():
    a = jnp.asarray(RNG.normal(size=(1, 4, 4)), jnp.float32)
    np.testing.assert_allclose(spearman(a, jnp.exp(3 * a)), 1, rtol=1e-6)
    np.testing.assert_allclose(spearman(a, -a), -1, rtol=1e-6)
    assert spearman(a, jnp.ones_like(a)).tolist() == [0]


def flat(model):
    state = nnx.to_flat_state(nnx.state(model))
    return {".".join(map(str, path)): np.asarray(value[...]) for path, value in state}


def test_randomised_shuffles_the_named_layers_of_a_copy():
    model = Net(nnx.Rngs(0))
    before = flat(model)
    after = flat(randomised(model, ("blocks.1", "first"), jax.random.key(0)))
    assert before.keys() == after.keys()
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"blocks.1.kernel", "first.kernel"}  # biases are zeros
    for name in before:
        np.testing.assert_array_equal(np.sort(before[name].ravel()), np.sort(after[name].ravel()))
        np.testing.assert_array_equal(flat(model)[name], before[name])


def test_a_cascade_keeps_what_was_randomised_before():
    model, key = Net(nnx.Rngs(0)), jax.random.key(1)
    one, two = (flat(randomised(model, names, key)) for names in ("blocks.1", ("blocks", "first")))
    np.testing.assert_array_equal(one["blocks.1.kernel"], two["blocks.1.kernel"])
    other = flat(randomised(model, "blocks.1", jax.random.key(2)))
    assert (one["blocks.1.kernel"] != other["blocks.1.kernel"]).any()
    assert (two["blocks.0.kernel"] != two["blocks.1.kernel"]).any()


def test_wrong_layers_are_named():
    with pytest.raises(ValueError, match="no layer 'fc'; this model has: blocks, first, norm"):
        randomised(Net(nnx.Rngs(0)), "fc", jax.random.key(0))
    model = Net(nnx.Rngs(0))
    model.drop = nnx.Dropout(0.5)
    with pytest.raises(ValueError, match="layers: no parameters in drop"):
        randomised(model, "drop", jax.random.key(0))
