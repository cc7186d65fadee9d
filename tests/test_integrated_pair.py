"""`integrated_pair`: completeness for any head, and what it reduces to for linear ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fam_jax
from fam_jax import cosine, dot
from tests import heads
from tests.close import assert_close
from tests.programs import on_devices

HEADS = {name: heads.make(name, 2, 3, 5) for name in ("gap_linear", "mlp")}
ENCODE = {name: head.encode for name, head in HEADS.items()}
SMOOTH = fam_jax.encoder(lambda x: x, lambda A: jnp.tanh(HEADS["gap_linear"].forward(A)))


def pair(name, b=2, dtype=np.float32):
    images = [heads.activations(b, 2, 3, 5, seed).astype(dtype) for seed in (1, 2, 3, 4)]
    return ENCODE[name], *images


def error(out):
    """The largest difference between a sum over all pairs and the total, over the largest total."""
    difference = jnp.abs(out.maps.sum((1, 2, 3, 4)) - out.totals)
    return float(jnp.max(difference) / jnp.max(jnp.abs(out.totals)))


def test_linear_heads_one_step_is_exact_and_point_to_point(x64):
    encode, A, B, _, _ = pair("gap_linear", dtype=np.float64)
    out = fam_jax.integrated_position_pairs(encode, A, B, steps=1)
    query, reference = encode(A), encode(B)
    p2p = fam_jax.position_pairs(query, reference)
    assert_close(out.maps, p2p, rtol=1e-10)
    score = cosine.score(query.embeddings, reference.embeddings)
    assert_close(out.totals, score, relative_to=1, rtol=1e-12)  # cosines


@pytest.mark.parametrize("norms", ["frozen", "free"])
def test_completeness_comes_with_the_steps(norms, x64):
    """Between four embeddings, by NumPy; the middle of intervals errs with 1 / steps^2."""
    _, A, B, A0, B0 = pair("gap_linear", dtype=np.float64)
    run = lambda steps: fam_jax.integrated_position_pairs(  # noqa: E731
        SMOOTH, A, B, (A0, B0), steps=steps, norms=norms
    )
    out = run(16)
    unit = lambda z: z / np.linalg.norm(z)  # noqa: E731
    for n in range(2):
        a, b, a0, b0 = (np.tanh(HEADS["gap_linear"].embed(x[n])) for x in (A, B, A0, B0))
        if norms == "free":
            a, b, a0, b0 = map(unit, (a, b, a0, b0))
        s = lambda p, q, a=a, b=b: p @ q / (np.linalg.norm(a) * np.linalg.norm(b))  # noqa: E731
        total = s(a, b) - s(a, b0) - s(a0, b) + s(a0, b0)
        assert_close(out.totals[n], total, relative_to=1, rtol=1e-10)  # of four cosines
    assert 1e-7 < error(out) < 1e-2
    np.testing.assert_allclose(error(run(64)), error(out) / 16, rtol=0.02)


def test_kinks_of_relu_are_crossed_too(x64):
    encode, A, B, _, _ = pair("mlp", dtype=np.float64)
    few, many = (
        fam_jax.integrated_position_pairs(encode, A, B, steps=n, similarity=dot) for n in (4, 400)
    )
    assert error(many) < 5e-3
    assert error(many) < error(few)


@pytest.mark.numerics
def test_exchange_jit_vmap_chunks_and_batches_agree(x64):
    encode, *images = pair("mlp", dtype=np.float64)
    run = lambda A, B, A0, B0, chunk=32: fam_jax.integrated_position_pairs(  # noqa: E731
        encode, A, B, (A0, B0), 3, chunk=chunk
    )
    A, B, A0, B0 = images
    expected = run(*images).maps
    assert_close(run(B, A, B0, A0).maps.transpose(0, 3, 4, 1, 2), expected, rtol=1e-10)
    one = jax.vmap(lambda *x: run(*(y[None] for y in x), chunk=2).maps[0])
    assert_close(jax.jit(one)(*images), expected, rtol=1e-10)
    for dtype, digits in ((jnp.float32, 1e-4), (jnp.bfloat16, 0.03)):  # of the largest value
        low = run(*(jnp.asarray(x, dtype) for x in images))
        assert low.maps.dtype == low.totals.dtype == jnp.float32
        assert_close(low.maps, expected, rtol=digits)


def test_gradients_match_finite_differences(x64):
    encode, A, B, _, _ = pair("mlp", 1, np.float64)
    loss = lambda A: jnp.sum(  # noqa: E731
        jnp.sin(9 * fam_jax.integrated_position_pairs(encode, A, B, None, 2).maps)
    )
    A = jnp.asarray(A + 0.1)
    check_grads(jax.jit(loss), (A,), order=1, modes=["rev"], rtol=1e-5, atol=1e-7)


def test_sharded_pairs_need_no_communication(x64):
    encode, A, B, _, _ = pair("mlp", 8, np.float64)
    run = jax.jit(lambda A, B: fam_jax.integrated_position_pairs(encode, A, B, steps=2))
    expected = run(A, B)
    out = on_devices(run, A, B)
    assert out.maps.sharding.spec[0] == "batch"
    assert_close(out.maps, expected.maps, rtol=1e-10)


def test_nothing_to_say_gives_zeros_and_spares_the_others():
    encode, A, B, _, _ = pair("mlp")
    clean = fam_jax.integrated_position_pairs(encode, A, B, steps=3)
    A[1] = np.nan
    out = fam_jax.integrated_position_pairs(encode, A, B, steps=3)
    assert not out.maps[1].any()
    assert out.totals[1] == 0
    assert_close(out.maps[0], clean.maps[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps: expected a positive integer"),
        ({"norms": "freed"}, ValueError, "did you mean 'free'"),
        ({"similarity": fam_jax.euclidean}, TypeError, "cosine or fam_jax.dot"),
        ({"baseline": 2 * (np.ones((2, 1, 3, 5), np.float32),)}, ValueError, "like the queries"),
        ({"encode": lambda x: x}, TypeError, "encode: expected fam_jax.capture"),
    ],
)
def test_wrong_arguments_are_refused(options, error, message, unchecked):
    encode, A, B, _, _ = pair("mlp")
    with pytest.raises(error, match=message):
        fam_jax.integrated_position_pairs(
            **{"encode": encode, "queries": A, "references": B} | options
        )
