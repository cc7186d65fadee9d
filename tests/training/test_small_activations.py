"""Maps of channels and embeddings that are all but zero, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests.close import assert_close

POOLED = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))


@jax.jit
def maps_and_scores(similarity, A, r):
    """Maps' sum and the score with their gradients, and the terms of the score."""

    def summed(A):
        return jnp.sum(fam_jax.decomposition(similarity)(POOLED(A), r))

    def score(A):
        return jnp.sum(similarity.score(A.mean((1, 2)), r))

    terms = similarity.shares(A.mean((1, 2)), r)
    return jax.value_and_grad(summed)(A), jax.value_and_grad(score)(A), terms


@pytest.mark.parametrize("similarity", ["dot", "margin", "cosine"])
@pytest.mark.parametrize("silent", [0.0, 1e-36, 1e-20, 1e-9])
def test_a_channel_that_is_all_but_silent_spoils_no_gradient(similarity, silent):
    """The map of a pooled head sums to the score, so its gradient is the score's."""
    rng = np.random.default_rng(0)
    r, bank = (rng.normal(size=(n, 5)).astype(np.float32) for n in (1, 3))
    chosen = {
        "dot": fam_jax.dot,
        "margin": fam_jax.margin(fam_jax.dot, bank),
        "cosine": fam_jax.cosine,
    }[similarity]
    A = rng.random((1, 4, 4, 5)).astype(np.float32)
    A[..., 2] *= np.float32(silent)
    (total, slope), (score, expected), terms = maps_and_scores(chosen, A, r)
    assert_close(total, score, relative_to=np.abs(terms).sum())
    assert_close(slope, expected)


def test_a_small_embedding_has_the_map_of_a_large_one():
    """Its squares vanish in float32, its cosine does not."""
    A = np.random.default_rng(0).random((1, 4, 4, 5)).astype(np.float32)
    map_of = jax.jit(lambda A: fam_jax.decomposition()(POOLED(A), jnp.ones((1, 5))))
    assert_close(map_of(np.float32(1e-22) * A), map_of(A))
