"""Decisions under masking, errors of means, and the maps that know nothing."""

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax.metrics import (
    centre_gaussian,
    eer_threshold,
    fewshot_fidelity,
    left_out,
    mean_and_error,
    paired_difference,
    random_map,
    verification_accuracy,
)
from fam_jax.metrics._pixels import blurred
from tests.close import assert_close

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def test_fewshot_fidelity_by_hand(x64):
    """log p of the winner before, less after the blur of a quarter of the pixels."""
    images, maps = RNG.normal(size=(2, 4, 4, 3)), RNG.normal(size=(2, 4, 4))
    prototypes = RNG.normal(size=(5, 3))

    def embed(x):
        return x[:, 1:, 1:].sum((1, 2))

    args = (embed, images, prototypes, maps, fam_jax.euclidean)
    drops = fewshot_fidelity(*args, fraction=0.25, temperature=2.0)
    soft = np.asarray(blurred(jnp.asarray(images)))

    def log_p(image):
        scores = -((image[1:, 1:].sum((0, 1)) - prototypes) ** 2).sum(1) / 2
        return scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())

    for n in range(2):
        top = maps[n] >= np.sort(maps[n].ravel())[-4]
        before, after = log_p(images[n]), log_p(np.where(top[..., None], soft[n], images[n]))
        winner = before.argmax()
        assert_close(drops[n], before[winner] - after[winner], relative_to=after, rtol=1e-10)


def test_the_threshold_of_equal_errors_by_trying_all():
    """With ties among the scores, as rounding makes them."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        same = rng.random(60) < 0.4
        scores = np.round(rng.normal(size=60) + 1.0 * same, 1).astype(np.float32)
        t = eer_threshold(scores, same)
        gap = lambda t: abs((scores[~same] >= t).mean() - (scores[same] < t).mean())  # noqa: B023, E731
        assert gap(float(t)) <= min(gap(s) for s in scores) + 1e-6


def test_a_threshold_that_separates_is_halfway_and_always_right():
    scores, same = (
        np.array([0.1, 0.75, 0.25, 0.8], np.float32),
        np.array([False, True, False, True]),
    )
    assert float(eer_threshold(scores, same)) == 0.5
    assert float(verification_accuracy(scores, same, 0.5)) == 1.0
    assert float(verification_accuracy(scores, ~same, 0.5)) == 0.0
    curve = jnp.stack([jnp.asarray(scores), jnp.zeros(4)], axis=1).at[0, 1].set(jnp.nan)
    np.testing.assert_allclose(verification_accuracy(curve, same, 0.5), [1, 1 / 3], rtol=1e-6)


def test_the_bootstrap_error_of_a_mean_is_its_standard_error():
    values = RNG.normal(2.0, 3.0, size=200).astype(np.float32)
    mean, error = mean_and_error(values, KEY, samples=2000)
    assert_close(mean, values.mean(), relative_to=values)
    np.testing.assert_allclose(error, values.std() / 200**0.5, rtol=0.05)


def test_images_with_a_nan_are_left_out_and_counted():
    """As if they were not there: the mean exactly, the error as far as chance allows."""
    curves = RNG.normal(size=(50, 3)).astype(np.float32)
    curves[::5, 1] = np.nan
    kept = curves[~np.isnan(curves).any(1)]
    assert int(left_out(curves)) == 10
    mean, error = mean_and_error(curves, KEY, samples=2000)
    assert_close(mean, kept.mean(0), relative_to=kept)
    np.testing.assert_allclose(error, kept.std(0) / 40**0.5, rtol=0.1)
    assert np.isnan(mean_and_error(np.full(3, np.nan, np.float32), KEY).mean)


def test_a_paired_difference_is_that_of_the_pairs():
    a = RNG.normal(size=100).astype(np.float32)
    b = a - 0.5 + 0.01 * RNG.normal(size=100).astype(np.float32)
    b[3] = np.nan
    mean, error = paired_difference(a, b, KEY)
    assert_close(mean, np.nanmean(a - b), relative_to=a)
    assert error < 0.002
    assert mean_and_error(a, KEY).error > 0.05


def test_the_maps_that_know_nothing():
    maps = random_map(KEY, (3, 20, 20))
    assert (maps >= 0).all()
    assert (maps < 1).all()
    assert (maps[0] != maps[1]).any()
    centre = centre_gaussian((2, 9, 5), sigma=0.2)
    assert centre.shape == (2, 9, 5)
    assert centre[1, 4, 2] == 1 == centre.max()
    np.testing.assert_allclose(centre, centre[:, ::-1, ::-1], rtol=1e-5)
    np.testing.assert_allclose(centre[0, 4, 3], np.exp(-0.5), rtol=1e-5)  # one sigma: a column
