"""`nmf_concepts`: non-negative factors of two images, and what they are worth to a similarity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax.methods.nonnegative import factorise, update
from tests import heads
from tests.close import assert_close
from tests.programs import on_devices

pytestmark = pytest.mark.numerics

HEAD = heads.make("gap_linear", 2, 3, 7)
ENCODE = HEAD.encode


def exact(b=2, k=3):
    """Activations of two images [b 2 3 7], [b 3 2 7] made of k concepts.

    Each is alone at one position and in one channel: then there are no other factors.
    """
    rng = np.random.default_rng(0)
    H = rng.uniform(0.1, 1, (b, k, 7)) * (rng.uniform(size=(b, k, 7)) < 0.6)
    H[:, :, :k] = np.eye(k)
    W = rng.uniform(0, 1, (b, 12, k)) * (rng.uniform(size=(b, 12, k)) < 0.7)
    W[:, [1, 5, 8]] = 2 * np.eye(k)
    V = np.float32(W @ H)
    return H, W, V[:, :6].reshape(b, 2, 3, 7), V[:, 6:].reshape(b, 3, 2, 7)


def run(A, B, **options):
    return fam_jax.concepts(ENCODE(A), ENCODE(B), **({"k": 3, "steps": 50} | options))


def test_exact_concepts_are_found_up_to_order_and_scale():
    H, W, A, B = exact()
    out = run(A, B, steps=2000)
    assert (out.errors < 1e-3).all()
    for n in range(2):
        direction = H[n] / np.linalg.norm(H[n], axis=1, keepdims=True)
        cosines = np.asarray(out.concepts[n]) @ direction.T
        order = cosines.argmax(1)
        assert sorted(order) == [0, 1, 2]
        assert cosines.max(1).min() > 0.999
        concepts = np.concatenate(
            [np.asarray(m[n]).reshape(3, -1) for m in (out.query_concepts, out.reference_concepts)],
            axis=1,
        )
        expected = (W[n] * np.linalg.norm(H[n], axis=1)).T[order]
        assert np.abs(concepts - expected).max() < 0.05 * expected.max()


def test_the_factors_are_those_of_scikit_learn(x64):
    """solver="mu" from the same start: an independent implementation of the same updates."""
    from sklearn.decomposition import non_negative_factorization

    rng = np.random.default_rng(0)
    V, W, H = (rng.uniform(0.1, 1, size) for size in ((12, 7), (12, 3), (3, 7)))
    ours = jax.jit(lambda *x: update(*x, 25))(V, W, H)
    W, H, _ = non_negative_factorization(
        V, W.copy(), H.copy(), n_components=3, init="custom", solver="mu", tol=0, max_iter=25
    )
    np.testing.assert_allclose(ours[0], W, rtol=1e-9)
    np.testing.assert_allclose(ours[1], H, rtol=1e-9)


def test_the_error_never_grows(x64):
    V = jnp.maximum(jnp.asarray(np.random.default_rng(0).normal(size=(12, 7))), 0)

    def step(factors, _):
        W, H = factors
        return update(V, W, H, 1), jnp.linalg.norm(V - W @ H)

    run = jax.jit(lambda V: jax.lax.scan(step, factorise(V, 3, 0), None, 30)[1])
    errors = run(V)
    assert np.all(np.diff(errors) <= 1e-12)
    assert errors[-1] < 0.9 * errors[0]


def test_weights_and_weighted_maps_by_the_definition(x64):
    A = heads.activations(2, 2, 3, 7).astype(np.float64)
    B = heads.activations(2, 2, 3, 7, seed=2).astype(np.float64)
    out = run(A, B)
    for n in range(2):
        z, r = HEAD.embed(A[n]), HEAD.embed(B[n])
        norms = np.linalg.norm(z) * np.linalg.norm(r)
        for x, v, weights, parts, maps in (
            (A, r, out.query_weights, out.query_concepts, out.query_maps),
            (B, z, out.reference_weights, out.reference_concepts, out.reference_maps),
        ):
            g = np.abs(HEAD.pull(x[n], v / norms)).mean((0, 1))
            assert_close(weights[n], np.asarray(out.concepts[n]) @ g, rtol=1e-10)
            expected = np.tensordot(np.asarray(weights[n]), np.asarray(parts[n]), 1)
            assert_close(maps[n], expected, rtol=1e-10)
    norms = np.linalg.norm(out.concepts, axis=-1)
    np.testing.assert_allclose(norms, 1, rtol=1e-10)


def test_exchange_scale_jit_vmap_and_batches_agree(x64):
    A, B = (x.astype(np.float64) for x in exact()[2:])
    expected = run(A, B)
    assert_close(run(B, A).reference_maps, expected.query_maps, rtol=1e-8)
    large = run(1e8 * A, 1e8 * B)
    assert_close(large.concepts, expected.concepts, rtol=1e-8)
    assert_close(large.query_maps, expected.query_maps, rtol=1e-8)  # a gradient shrinks as much
    one = jax.vmap(lambda a, b: jax.tree.map(lambda x: x[0], run(a[None], b[None])))
    for actual, plain in zip(jax.jit(one)(A, B), expected, strict=True):
        assert_close(actual, plain, rtol=1e-8)
    for dtype, digits in ((jnp.float32, 1e-3), (jnp.bfloat16, 0.05)):  # of the largest value
        low = run(jnp.asarray(A, dtype), jnp.asarray(B, dtype))
        assert {x.dtype for x in low} == {jnp.dtype("float32")}
        assert_close(low.query_maps, expected.query_maps, rtol=digits)


def test_sharded_pairs_need_no_communication(x64):
    A, B = (x.astype(np.float64) for x in exact(8)[2:])
    go = jax.jit(lambda A, B: run(A, B, steps=5))
    expected = go(A, B)
    out = on_devices(go, A, B)
    assert out.query_maps.sharding.spec[0] == "batch"
    assert_close(out.query_maps, expected.query_maps, rtol=1e-9)


def test_nothing_to_say_gives_zeros_and_spares_the_others():
    *_, A, B = exact()
    clean = run(A, B)
    for bad in (0, np.nan):
        A[1] = bad
        out = run(A, B)
        for x in out:
            assert not x[1].any()
        assert_close(out.query_maps[0], clean.query_maps[0])


def test_more_concepts_than_there_are_leave_no_nan():
    *_, A, B = exact(1)
    out = run(A, B, k=9)
    assert all(np.isfinite(x).all() for x in out)
    assert (out.errors < 0.05).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k: expected a positive integer"),
        ({"steps": 2.5}, ValueError, "steps: expected a positive integer"),
        ({"similarity": "cosine"}, TypeError, "similarity: expected"),
    ],
)
def test_wrong_arguments_are_refused(options, error, message, unchecked):
    *_, A, B = exact()
    with pytest.raises(error, match=message):
        run(A, B, **options)
