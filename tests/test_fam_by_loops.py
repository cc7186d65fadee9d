"""Claim: `fam` is its definition, written independently as plain NumPy loops, for every head."""

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests import heads
from tests.close import assert_close
from tests.explained import weights

pytestmark = pytest.mark.numerics

SIMILARITIES = {
    "cosine": fam_jax.cosine,
    "dot": fam_jax.dot,
    "euclidean": fam_jax.euclidean,
}


@pytest.mark.parametrize("normalize", ["minmax", "none", "relu"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("name", heads.NAMES)
def test_fam_is_its_definition(name, similarity, normalize, x64):
    head = heads.make(name, 3, 4, 5)
    A = heads.activations(2, 3, 4, 5, signed=name != "gap").astype(np.float64)
    enc = head.encode(jnp.asarray(A))
    R = np.random.default_rng(2).normal(size=enc.embeddings.shape)
    maps = fam_jax.fam(SIMILARITIES[similarity], normalize=normalize)(enc, jnp.asarray(R))
    expected = heads.fam_loops(head, A, R, similarity, normalize)
    assert_close(maps, expected, rtol=1e-12)


@pytest.mark.parametrize("name", heads.NAMES)
def test_float32_holds_single_precision(name):
    head = heads.make(name, 7, 7, 16)
    A = heads.activations(3, 7, 7, 16)
    enc = head.encode(jnp.asarray(A))
    R = np.random.default_rng(2).normal(size=enc.embeddings.shape).astype(np.float32)
    maps = fam_jax.fam()(enc, jnp.asarray(R))
    expected = heads.fam_loops(head, A, R)
    assert maps.dtype == jnp.float32
    assert_close(maps, expected)


def test_constant_shares_weigh_every_channel_alike():
    A = jnp.asarray(heads.activations(1, 3, 3, 4))
    enc = fam_jax.encoder(
        lambda x: x, lambda A: jnp.ones((A.shape[0], 4), A.dtype) + 0 * A.mean((1, 2))
    )(A)
    # A head without a gradient: the pullback is zero, the weights themselves are all ones.
    w = weights(fam_jax.fam(), enc.embeddings, jnp.ones((1, 4)))
    np.testing.assert_array_equal(w, np.ones((1, 4)))


def test_gap_channel_weights_are_the_shares(x64):
    """alpha equals w exactly for global average pooling."""
    A = jnp.asarray(heads.activations(2, 3, 5, 4), jnp.float64)
    enc = heads.make("gap", 3, 5, 4).encode(A)
    w = weights(fam_jax.fam(), enc.embeddings, jnp.ones((2, 4)))
    alpha = enc.pullback(w).sum((1, 2))
    assert_close(alpha, w, rtol=1e-12)


def test_gradient_x_input_is_the_share_for_cosine_and_dot_only(x64):
    A = jnp.asarray(heads.activations(2, 3, 5, 4), jnp.float64)
    enc = heads.make("gap", 3, 5, 4).encode(A)
    R = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4)))
    for similarity, same in (
        (fam_jax.cosine, True),
        (fam_jax.dot, True),
        (fam_jax.euclidean, False),
    ):
        plain = fam_jax.fam(similarity)(enc, R)
        other = fam_jax.fam(similarity, weights="gradient_x_input")(enc, R)
        assert (np.abs(plain - other).max() < 1e-10 * np.abs(plain).max()) == same
    z, r = np.asarray(enc.embeddings), np.asarray(R)
    method = fam_jax.fam(fam_jax.euclidean, normalize="none", weights="gradient_x_input")
    assert_close(weights(method, enc.embeddings, R), -2 * (z - r) * z, rtol=1e-12)
