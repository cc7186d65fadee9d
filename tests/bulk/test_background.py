"""Two embeddings stand for a whole gallery: every margin over them is the margin over all of it."""

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax._core.similarity import frozen_gradient, gradient
from fam_jax.bulk._background import stand_ins
from tests.close import assert_close

SIMILARITIES = [fam_jax.cosine, fam_jax.dot, fam_jax.euclidean]
SIGNED = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32) + np.float32(0.3)
POSITIVE = np.maximum(SIGNED, 0)
GALLERIES = {
    "signed": SIGNED,
    "positive, some are zero": np.concatenate([POSITIVE, np.zeros((4, 7), np.float32)]),
    "without a mean": np.concatenate([SIGNED, -SIGNED]),
    "all alike": np.repeat(SIGNED[:1], 5, axis=0),
    "two dimensions": SIGNED[:, :2],
}


def largest(similarity, z, bank, of):
    """The largest term of a mean over the bank."""
    return max(np.abs(of(similarity, z, np.broadcast_to(b, z.shape))).max() for b in bank)


@pytest.mark.numerics
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("name", GALLERIES)
def test_margins_over_both_are_those_over_all(name, similarity):
    gallery = GALLERIES[name]
    z, r = np.random.default_rng(1).normal(size=(2, 3, gallery.shape[1])).astype(np.float32)
    two = stand_ins(similarity, np.array_split(gallery, 3))
    assert two.shape == (2, gallery.shape[1])
    given, expected = (fam_jax.margin(similarity, jnp.asarray(b)) for b in (two, gallery))
    for of in (lambda s, z, r: s.shares(z, r), frozen_gradient, gradient):
        terms = largest(similarity, z, [*gallery[:20], *two], of)
        assert_close(of(given, z, r), of(expected, z, r), relative_to=terms)


@pytest.mark.numerics
def test_without_the_hit_the_map_is_the_same_but_for_a_factor():
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    enc = encode(np.random.default_rng(1).normal(size=(1, 4, 4, 7)).astype(np.float32))
    rest, hit = SIGNED[1:], SIGNED[:1]
    whole = fam_jax.contrastive(stand_ins(fam_jax.cosine, [SIGNED]))(enc, hit)
    without = fam_jax.contrastive(rest)(enc, hit)
    assert_close(whole * len(SIGNED) / len(rest), without)


def test_what_is_not_finite_does_not_count():
    bad = np.array([[np.nan] * 7, [np.inf] * 7], np.float32)
    for similarity in SIMILARITIES:
        expected = stand_ins(similarity, [SIGNED])
        np.testing.assert_array_equal(stand_ins(similarity, [bad, SIGNED]), expected)


@pytest.mark.parametrize(
    ("similarity", "gallery", "message"),
    [
        (fam_jax.cosine, SIGNED[:1], "no second picture: there is nothing to compare with"),
        (fam_jax.margin(fam_jax.dot, SIGNED), SIGNED, "expected cosine, dot or euclidean, got"),
    ],
)
def test_what_has_no_background_is_refused(similarity, gallery, message):
    with pytest.raises(ValueError, match=message):
        stand_ins(similarity, [gallery])
