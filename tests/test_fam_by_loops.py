"""Claim: `fam` is its definition, written independently as plain NumPy loops, for every head."""

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests import heads

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
    np.testing.assert_allclose(maps, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", heads.NAMES)
def test_float32_holds_single_precision(name):
    head = heads.make(name, 7, 7, 16)
    A = heads.activations(3, 7, 7, 16)
    enc = head.encode(jnp.asarray(A))
    R = np.random.default_rng(2).normal(size=enc.embeddings.shape).astype(np.float32)
    maps = fam_jax.fam()(enc, jnp.asarray(R))
    expected = heads.fam_loops(head, A, R)
    assert maps.dtype == jnp.float32
    np.testing.assert_allclose(maps, expected, atol=1e-5 * np.abs(expected).max())


def test_constant_shares_weigh_every_channel_alike():
    A = jnp.asarray(heads.activations(1, 3, 3, 4))
    enc = fam_jax.encoder(
        lambda x: x, lambda A: jnp.ones((A.shape[0], 4), A.dtype) + 0 * A.mean((1, 2))
    )(A)
    # A head without a gradient: the pullback is zero, the weights themselves are all ones.
    weights = fam_jax.fam().weights(enc.embeddings, jnp.ones((1, 4)))
    np.testing.assert_array_equal(weights, np.ones((1, 4)))


def test_gap_channel_weights_are_the_shares():
    """alpha equals w exactly for global average pooling."""
    A = jnp.asarray(heads.activations(2, 3, 5, 4))
    enc = heads.make("gap", 3, 5, 4).encode(A)
    w = fam_jax.fam().weights(enc.embeddings, jnp.ones((2, 4)))
    alpha = enc.pullback(w).sum((1, 2))
    np.testing.assert_allclose(alpha, w, rtol=1e-6, atol=1e-7)


def test_gradient_x_input_is_the_share_for_cosine_and_dot_only():
    A = jnp.asarray(heads.activations(2, 3, 5, 4))
    enc = heads.make("gap", 3, 5, 4).encode(A)
    R = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32))
    for similarity, same in (
        (fam_jax.cosine, True),
        (fam_jax.dot, True),
        (fam_jax.euclidean, False),
    ):
        plain = fam_jax.fam(similarity)(enc, R)
        other = fam_jax.fam(similarity, weights="gradient_x_input")(enc, R)
        assert np.allclose(plain, other, atol=1e-5) == same
    z, r = np.asarray(enc.embeddings), np.asarray(R)
    method = fam_jax.fam(fam_jax.euclidean, normalize="none", weights="gradient_x_input")
    np.testing.assert_allclose(
        method.weights(enc.embeddings, R), -2 * (z - r) * z, rtol=1e-5, atol=1e-6
    )
