"""Similarities: scores, shares, safe norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax._core.similarity import normalize
from tests.close import assert_close
from tests.programs import on_devices

# In float64: margins are differences.
pytestmark = [pytest.mark.numerics, pytest.mark.usefixtures("x64")]

RNG = np.random.default_rng(0)
Z, R = RNG.normal(size=(2, 8, 9))
BANK = RNG.normal(size=(11, 9))
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
    assert_close(ALL[of].score(Z, R), by_hand(of, Z, R), rtol=1e-10)


@every
def test_shares_sum_to_the_score(of):
    shares = ALL[of].shares(Z, R)
    assert shares.shape == Z.shape
    assert_close(shares.sum(-1), ALL[of].score(Z, R), relative_to=shares, rtol=1e-10)


@every
def test_jit_vmap_and_bfloat16(of):
    similarity = ALL[of]
    expected = similarity.score(Z, R)
    run = jax.jit(lambda s, z, r: s.score(z, r))
    assert_close(run(similarity, Z, R), expected, rtol=1e-10)
    one = jax.vmap(lambda z, r: similarity.score(z[None], r[None])[0])(Z, R)
    assert_close(one, expected, rtol=1e-10)
    narrow = jax.tree.map(lambda x: x.astype(np.float32), similarity)  # a margin's background
    low = narrow.score(*(jnp.asarray(x, jnp.bfloat16) for x in (Z, R)))
    assert low.dtype == jnp.float32
    assert_close(low, expected, rtol=0.05)


@every
def test_sharded(of):
    score = lambda similarity, z, r: similarity.score(z, r)  # noqa: E731
    out = on_devices(score, Z, R, shared=(ALL[of],))
    assert_close(out, score(ALL[of], Z, R), rtol=1e-10)


def test_a_zero_vector_has_a_zero_cosine_and_a_finite_gradient():
    zero = jnp.zeros((1, 9), jnp.float64)
    value, slope = jax.value_and_grad(lambda z: fam_jax.cosine.score(z, R[:1]).sum())(zero)
    assert value == 0
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e30])
def test_cosine_does_not_depend_on_scale(scale):
    """Squares of float32 numbers beyond 1e19 or below 1e-23 would overflow or vanish."""
    z, r = Z.astype(np.float32), R.astype(np.float32)
    scores = fam_jax.cosine.score(np.float32(scale) * z, r)
    assert scores.dtype == jnp.float32
    assert_close(scores, fam_jax.cosine.score(Z, R), relative_to=1)  # cosines
    norms = np.linalg.norm(normalize(np.float32(scale) * z), axis=1)
    assert_close(norms, np.ones(8))


def test_a_margin_of_the_background_against_itself_is_zero():
    rival = fam_jax.margin(fam_jax.cosine, R[:1])
    assert_close(rival.score(Z[:1], R[:1]), np.zeros(1), relative_to=1, rtol=1e-12)  # cosines
