"""`contrastive`, the method we recommend: what it sums to, and what cancels in it."""

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests import heads
from tests.close import assert_close

pytestmark = [pytest.mark.numerics, pytest.mark.usefixtures("x64")]


def case(head="gap_linear"):
    net = heads.make(head, 3, 4, 6)
    enc = net.encode(heads.activations(2, 3, 4, 6, signed=True).astype(np.float64))
    rng = np.random.default_rng(0)
    d = enc.embeddings.shape[1]
    return enc, *(jnp.asarray(rng.normal(size=(n, d))) for n in (2, 7))


@pytest.mark.parametrize("head", ["gap", "gap_linear", "flatten"])
def test_sums_to_the_margin_for_signed_embeddings(head):
    enc, references, background = case(head)
    score = fam_jax.margin(fam_jax.cosine, background).score(enc.embeddings, references)
    maps = fam_jax.contrastive(background)(enc, references)
    assert_close(maps.sum((1, 2)), score, relative_to=maps, rtol=1e-10)


def test_a_reference_like_all_others_has_nothing_to_show():
    enc, references, _ = case()
    maps = fam_jax.contrastive(references[:1])(
        enc, jnp.broadcast_to(references[0], references.shape)
    )
    plain = fam_jax.decomposition()(enc, references)  # of which the difference is taken
    assert_close(maps, np.zeros(maps.shape), relative_to=plain, rtol=1e-12)


def test_what_all_references_share_cancels():
    """With a dot product, a part common to the reference and the background leaves no trace."""
    enc, references, background = case()
    same = 3 * references[:1]
    plain = fam_jax.contrastive(background, fam_jax.dot)(enc, references)
    moved = fam_jax.contrastive(background + same, fam_jax.dot)(enc, references + same)
    assert_close(moved, plain, rtol=1e-10)


def test_signs_survive_where_fam_loses_them():
    """One channel says yes at the left, its negative at the right: FAM's shares are blind to it."""
    A = jnp.array([[[[1.0, -3.0], [-3.0, 1.0]]]])  # z = (-1, -1): negative in both
    enc = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))(A)
    r = jnp.array([[-1.0, 0.0]])  # alike through the first channel, which is most negative right
    right = fam_jax.contrastive(jnp.array([[0.0, -1.0]]))(enc, r)[0, 0]
    assert right[1] > 0 > right[0]
    wrong = fam_jax.fam()(enc, r)[0, 0]
    assert wrong[0] > wrong[1]
