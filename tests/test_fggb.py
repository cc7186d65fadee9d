"""`fggb`: dimensions that agree against those that do not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fam_jax
from tests import heads
from tests.close import assert_close
from tests.programs import on_devices


def case(d=6, b=2, dtype=np.float32):
    """Activations [b 2 3 2] and references [b d]."""
    A = heads.activations(b, 2, 3, 2, signed=True).astype(dtype)
    return A, np.random.default_rng(3).normal(size=(b, d)).astype(dtype)


def convolved(A):
    """A head in which dimensions look at different places, overlapping."""
    kernel = jnp.asarray(np.random.default_rng(5).normal(size=(2, 2, 2, 3)), A.dtype)
    x = jax.lax.conv_general_dilated(
        A, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(x).reshape(A.shape[0], -1)


CONVOLVED = fam_jax.encoder(lambda x: x, convolved)


class Signed(NamedTuple):
    positive: jax.Array
    negative: jax.Array


def run(A, R, encode=CONVOLVED, **options):
    """Both maps, what speaks for a pair and what against it."""
    enc = encode(A)
    return Signed(*(fam_jax.fggb(sign=sign, **options)(enc, R) for sign in Signed._fields))


@pytest.mark.parametrize("threshold", [None, 0.3, "each"])
def test_their_means_differ_by_the_score_less_the_threshold(threshold, x64):
    A, R = case(dtype=np.float64)
    score = fam_jax.cosine.score(CONVOLVED(A).embeddings, R)
    limit = {None: score, 0.3: 0.3}.get(threshold, jnp.array([0.1, -0.2]))
    out = run(A, R, threshold=None if threshold is None else limit)
    assert (out.positive >= 0).all()
    assert (out.negative >= 0).all()
    difference = out.positive.mean((1, 2)) - out.negative.mean((1, 2))
    both = fam_jax.fggb(sign="both", threshold=None if threshold is None else limit)
    assert_close(both(CONVOLVED(A), R), out.positive - out.negative, rtol=1e-10)
    assert_close(difference, score - limit, relative_to=out.positive, rtol=1e-10)


def test_flattened_every_dimension_lands_on_its_own_position(x64):
    """g_d is 6 at one of the 6 positions: w_d at its place, by the definition."""
    A, R = case(12, dtype=np.float64)
    out = run(A, R, heads.make("flatten", 2, 3, 2).encode, threshold=0.1)
    z = A.reshape(2, -1)
    norms = np.linalg.norm(z, axis=1) * np.linalg.norm(R, axis=1)
    weights = (z * R / norms[:, None] - 0.1 / 12).reshape(2, 2, 3, 2)
    assert_close(out.positive, 6 * np.maximum(weights, 0).sum(-1), rtol=1e-10)
    assert_close(out.negative, 6 * np.maximum(-weights, 0).sum(-1), rtol=1e-10)


def test_a_pooled_layer_gives_flat_maps(x64):
    """The docstring's warning."""
    A, R = case(2, dtype=np.float64)
    maps = run(A, R, heads.make("gap", 2, 3, 2).encode, threshold=0.0).positive
    assert maps.any()
    assert_close(maps, np.broadcast_to(maps[:, :1, :1], maps.shape), rtol=1e-12)


@pytest.mark.numerics
def test_transformations_agree(x64):
    A, R = case(dtype=np.float64)
    expected = run(A, R)
    assert_close(run(A, R, chunk=4), expected, rtol=1e-10)
    one = jax.vmap(lambda a, r: run(a[None], r[None]).negative[0])
    assert_close(jax.jit(one)(A, R), expected.negative, rtol=1e-10)
    for dtype, digits in ((jnp.float32, 1e-4), (jnp.bfloat16, 0.03)):  # of the largest value
        low = run(jnp.asarray(A, dtype), jnp.asarray(R, dtype))
        assert low.positive.dtype == jnp.float32
        assert_close(low.positive, expected.positive, rtol=digits)


def test_gradients_match_finite_differences(x64):
    A, R = case(6, 1, np.float64)
    loss = lambda A: jnp.sum(jnp.sin(run(A, R, threshold=0.1).positive))  # noqa: E731
    check_grads(jax.jit(loss), (jnp.asarray(A),), order=1, modes=["rev"], rtol=1e-5, atol=1e-7)


def test_sharded_batches_need_no_communication(x64):
    A, R = case(b=8, dtype=np.float64)
    expected = jax.jit(run)(A, R)
    out = on_devices(run, A, R)
    assert out.positive.sharding.spec[0] == "batch"
    assert_close(out.positive, expected.positive, rtol=1e-10)


def test_nothing_to_say_gives_zeros_and_spares_the_others():
    A, R = case()
    clean = run(A, R)
    A[1, 0, 0, 0] = np.nan
    out = run(A, R)
    assert not out.positive[1].any()
    assert not out.negative[1].any()
    assert_close(out.positive[0], clean.positive[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sign": "plus"}, ValueError, "sign: expected one of positive, negative, both"),
        ({"threshold": np.ones(3, np.float32)}, ValueError, r"threshold: expected one number or"),
        ({"chunk": 0}, ValueError, "chunk: expected a positive integer"),
        ({"similarity": "cosine"}, TypeError, "similarity: expected"),
    ],
)
def test_wrong_arguments_are_refused(options, error, message, unchecked):
    A, R = case()
    with pytest.raises(error, match=message):
        fam_jax.fggb(**options)(CONVOLVED(A), R)
