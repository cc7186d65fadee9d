"""Similarities: scores, shares, safe norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax.similarity import normalize

RNG = np.random.default_rng(0)
Z, R = (jnp.asarray(RNG.normal(size=(4, 9)).astype(np.float32)) for _ in range(2))
BANK = jnp.asarray(RNG.normal(size=(11, 9)).astype(np.float32))
ALL = {
    "cosine": fam_jax.cosine,
    "dot": fam_jax.dot,
    "euclidean": fam_jax.euclidean,
    "margin": fam_jax.margin(fam_jax.cosine, BANK),
    "margin of euclidean": fam_jax.margin(fam_jax.euclidean, BANK),
}
every = pytest.mark.parametrize("of", ALL)


def by_hand(of, z, r):
    z, r, bank = (np.asarray(x, np.float64) for x in (z, r, BANK))
    cosine = lambda r: (z * r).sum(-1) / np.linalg.norm(z, axis=-1) / np.linalg.norm(r, axis=-1)  # noqa: E731
    euclidean = lambda r: -np.square(z - r).sum(-1)  # noqa: E731
    return {
        "cosine": lambda: cosine(r),
        "dot": lambda: (z * r).sum(-1),
        "euclidean": lambda: euclidean(r),
        "margin": lambda: cosine(r) - np.mean([cosine(b) for b in bank], axis=0),
        "margin of euclidean": lambda: euclidean(r) - np.mean([euclidean(b) for b in bank], axis=0),
    }[of]()


@every
def test_scores_are_their_formulas(of):
    np.testing.assert_allclose(ALL[of].score(Z, R), by_hand(of, Z, R), rtol=1e-5, atol=1e-5)


@every
def test_shares_sum_to_the_score(of):
    shares = ALL[of].shares(Z, R)
    assert shares.shape == Z.shape
    np.testing.assert_allclose(shares.sum(-1), ALL[of].score(Z, R), rtol=1e-5, atol=1e-6)


@every
def test_jit_vmap_and_bfloat16(of):
    similarity = ALL[of]
    expected = similarity.score(Z, R)
    run = jax.jit(lambda s, z, r: s.score(z, r))
    np.testing.assert_allclose(run(similarity, Z, R), expected, rtol=1e-5, atol=1e-5)
    one = jax.vmap(lambda z, r: similarity.score(z[None], r[None])[0])(Z, R)
    np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-5)
    low = similarity.score(Z.astype(jnp.bfloat16), R.astype(jnp.bfloat16))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, expected, rtol=0.05, atol=0.05)


@every
def test_sharded(of):
    z, r = jnp.tile(Z, (4, 1)), jnp.tile(R, (4, 1))
    shard = jax.NamedSharding(jax.make_mesh((8,), ("batch",)), jax.P("batch"))
    run = jax.jit(lambda s, z, r: s.score(z, r))
    out = run(ALL[of], jax.device_put(z, shard), jax.device_put(r, shard))
    np.testing.assert_allclose(out, run(ALL[of], z, r), rtol=1e-5, atol=1e-5)


def test_a_zero_vector_has_a_zero_cosine_and_a_finite_gradient():
    zero = jnp.zeros((1, 9))
    value, slope = jax.value_and_grad(lambda z: fam_jax.cosine.score(z, R[:1]).sum())(zero)
    assert value == 0
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e30])
def test_cosine_does_not_depend_on_scale(scale):
    """Squares of float32 numbers beyond 1e19 or below 1e-23 would overflow or vanish."""
    expected = fam_jax.cosine.score(Z, R)
    np.testing.assert_allclose(fam_jax.cosine.score(scale * Z, R), expected, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(normalize(scale * Z), axis=1), 1, rtol=1e-6)


def test_a_margin_of_the_background_against_itself_is_zero():
    rival = fam_jax.margin(fam_jax.cosine, R[:1])
    np.testing.assert_allclose(rival.score(Z[:1], R[:1]), 0, atol=1e-7)
