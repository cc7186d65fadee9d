"""Rank correlations against SciPy; shuffled parameters keep everything but their places."""

import jax
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from fam_jax.metrics import randomised, spearman
from tests.close import assert_close

pytestmark = pytest.mark.numerics

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
def test_spearman_is_scipys(values, x64):
    """With ties (three values in all), too."""
    a, b = RNG.normal(size=(2, 4, 5, 6))
    if values:
        a, b = np.floor(values * scipy.stats.norm.cdf([a, b]))
    expected = [scipy.stats.spearmanr(x.ravel(), y.ravel())[0] for x, y in zip(a, b, strict=True)]
    assert_close(spearman(a, b), np.array(expected), relative_to=1, rtol=1e-12)


def test_spearman_sees_order_only(x64):
    a = RNG.normal(size=(1, 4, 4))
    assert_close(spearman(a, np.exp(3 * a)), np.ones(1), rtol=1e-12)
    assert_close(spearman(a, -a), -np.ones(1), rtol=1e-12)
    assert spearman(a, np.ones_like(a)).tolist() == [0]


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
