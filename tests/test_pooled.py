"""Heads that pool: their pullback is known to be constant, and maps are a matrix product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax._core.constant import constant_axes
from fam_jax._core.programs import equations
from fam_jax.methods.shares import share_per_unit
from tests.close import assert_close

pytestmark = pytest.mark.numerics

RNG = np.random.default_rng(0)
A, R = RNG.normal(size=(2, 3, 4, 6)), RNG.normal(size=(5, 6))
W = RNG.normal(size=(6, 6))


def mean(A):
    return A.mean((1, 2))


POOLED = {
    "mean": mean,
    "mean and a linear map": lambda A: mean(A) @ W,
    "mean, ReLU behind it": lambda A: jax.nn.relu(mean(A)),
    "tokens": lambda A: A.reshape(2, 12, 6).mean(1),
    "one after the other": lambda A: A.mean(1).mean(1),
    "channels first": lambda A: jnp.moveaxis(A, -1, 1).reshape(2, 6, 12).sum(2),
    "compiled": jax.jit(mean),
    "checkpointed": jax.checkpoint(mean),
    "mean and sum": lambda A: mean(A) - 2 * A.sum((1, 2)),
}
OTHERS = {
    "flattened": lambda A: A.reshape(2, 72) @ jnp.tile(W, (12, 1)) ** 2,
    "mean of rows": lambda A: A.mean(1).reshape(2, 24)[:, :6],
    "one position": lambda A: A[:, 0, 0],
    "ReLU in front of it": lambda A: mean(jax.nn.relu(A)),
    "power mean": lambda A: mean(jnp.abs(A) ** 3) ** (1 / 3),
    "maximum": lambda A: A.max((1, 2)),
}


def encoding(head):
    return fam_jax.encoder(lambda x: x, head)(jnp.asarray(A))


@pytest.mark.double
@pytest.mark.parametrize("name", POOLED | OTHERS)
def test_what_is_constant_over_positions_is_known(name, x64):
    enc = encoding((POOLED | OTHERS)[name])
    (axes,) = constant_axes(jax.make_jaxpr(enc.pullback)(enc.embeddings))
    G = np.asarray(enc.pullback(enc.embeddings))
    assert ({1, 2} <= axes) == (name in POOLED)
    for axis in axes:
        np.testing.assert_array_equal(G, np.broadcast_to(G.take([0], axis), G.shape))


@pytest.mark.double
@pytest.mark.parametrize("name", POOLED | OTHERS)
def test_maps_are_the_sums_of_their_products(name, x64):
    enc = encoding((POOLED | OTHERS)[name])
    maps = fam_jax.all_pairs(fam_jax.decomposition())(enc, jnp.asarray(R))
    z = enc.embeddings
    for i, r in enumerate(R):
        weights = share_per_unit(fam_jax.cosine, z, jnp.broadcast_to(r, z.shape))
        terms = enc.pullback(weights) * A
        assert_close(maps[:, i], terms.sum(-1), terms, rtol=1e-13)


@pytest.mark.parametrize("method", [fam_jax.decomposition(), fam_jax.hires_cam()], ids=repr)
def test_no_pair_has_products_at_every_position(method):
    def multiplied(head):
        program = jax.make_jaxpr(fam_jax.all_pairs(method))(encoding(head), jnp.asarray(R))
        products = (eqn for eqn in equations(program) if eqn.primitive.name == "mul")
        return max(eqn.outvars[0].aval.ndim for eqn in products)

    assert multiplied(OTHERS["ReLU in front of it"]) == 5, "pairs, positions, channels"
    assert multiplied(mean) < 5


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((4, 3, 5), {0, 1}),
        ((2, 6, 5), {0, 1}),
        ((12, 1, 5), {0, 1}),
        ((4, 15), {0}),
        ((60,), set()),
    ],
)
def test_a_reshape_keeps_what_lies_within_constant_axes(shape, axes):
    spread = lambda x: jnp.broadcast_to(x, (4, 3, 5)).reshape(shape)  # noqa: E731
    assert constant_axes(jax.make_jaxpr(spread)(jnp.ones(5))) == [axes]


def test_an_empty_batch_is_reshaped():
    program = jax.make_jaxpr(lambda x: x.reshape(0, 2))(jnp.ones((0, 4, 3)))
    assert constant_axes(program) == [frozenset()]
