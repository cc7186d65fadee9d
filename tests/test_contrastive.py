"""`contrastive`, the method we recommend: what it sums to, and what cancels in it."""

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests import heads


def case(head="gap_linear"):
    net = heads.make(head, 3, 4, 6)
    enc = net.encode(jnp.asarray(heads.activations(2, 3, 4, 6, signed=True)))
    rng = np.random.default_rng(0)
    d = enc.embeddings.shape[1]
    return enc, *(jnp.asarray(rng.normal(size=(n, d)), jnp.float32) for n in (2, 7))


@pytest.mark.parametrize("head", ["gap", "gap_linear", "flatten"])
def test_sums_to_the_margin_for_signed_embeddings(head):
    enc, references, background = case(head)
    score = fam_jax.margin(fam_jax.cosine, background).score(enc.embeddings, references)
    maps = fam_jax.contrastive(background)(enc, references)
    np.testing.assert_allclose(maps.sum((1, 2)), score, rtol=1e-4, atol=1e-5)


def test_a_reference_like_all_others_has_nothing_to_show():
    enc, references, _ = case()
    maps = fam_jax.contrastive(references[:1])(
        enc, jnp.broadcast_to(references[0], references.shape)
    )
    np.testing.assert_allclose(maps, 0, atol=1e-6)


def test_what_all_references_share_cancels():
    """With a dot product, a part common to the reference and the background leaves no trace."""
    enc, references, background = case()
    same = 3 * references[:1]
    plain = fam_jax.contrastive(background, fam_jax.dot)(enc, references)
    moved = fam_jax.contrastive(background + same, fam_jax.dot)(enc, references + same)
    np.testing.assert_allclose(moved, plain, rtol=1e-3, atol=1e-4)


def test_signs_survive_where_fam_loses_them():
    """One channel says yes at the left, its negative at the right: FAM's shares are blind to it."""
    A = jnp.array([[[[1.0, -3.0], [-3.0, 1.0]]]])  # z = (-1, -1): negative in both
    enc = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))(A)
    r = jnp.array([[-1.0, 0.0]])  # alike through the first channel, which is most negative right
    right = fam_jax.contrastive(jnp.array([[0.0, -1.0]]))(enc, r)[0, 0]
    assert right[1] > 0 > right[0]
    wrong = fam_jax.fam()(enc, r)[0, 0]
    assert wrong[0] > wrong[1]
