"""ROAD: the imputation solves its linear system, and removes what the percentiles say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax.metrics import road, road_combined
from fam_jax.metrics._impute import imputed
from tests.close import assert_close

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
WEIGHTS = {(dy, dx): 1 / 6 if 0 in (dy, dx) else 1 / 12 for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
del WEIGHTS[0, 0]


def solved(image, removed):
    """The same system as a dense matrix in float64, pixel by pixel."""
    height, width = removed.shape
    matrix, right = np.eye(removed.size), image.reshape(removed.size, -1).astype(float)
    for y, x in np.argwhere(removed):
        row = y * width + x
        near = {
            (y + dy) * width + x + dx: weight
            for (dy, dx), weight in WEIGHTS.items()
            if 0 <= y + dy < height and 0 <= x + dx < width
        }
        right[row] = 0
        for column, weight in near.items():
            matrix[row, column] = -weight / sum(near.values())
    return np.linalg.solve(matrix, right).reshape(image.shape)


@pytest.mark.parametrize("shape", [(6, 9), (16, 16)])
def test_the_imputation_is_the_solution_of_the_system(shape, x64):
    """Scattered holes, one that leaves a corner, and one that leaves a single pixel."""
    image = RNG.normal(size=(*shape, 2))
    y, x = np.mgrid[: shape[0], : shape[1]]
    removed = np.stack([RNG.random(shape) < 0.8, y + x > 3, y + x > 0])
    filled = imputed(jnp.broadcast_to(image, (1, 3, *image.shape)), jnp.asarray(removed)[None])
    for restored, hole in zip(filled[0], removed, strict=True):
        np.testing.assert_allclose(restored, solved(image, hole), atol=1e-7)
        assert (np.asarray(restored)[~hole] == image[~hole]).all()


def test_a_plane_is_restored_inside():
    """The weights are symmetric, so a linear ramp is its own imputation away from the edges."""
    y, x = np.mgrid[:8, :8].astype(np.float32)
    ramp, hole = (2 * y - x)[..., None], np.zeros((8, 8), bool)
    hole[2:6, 1:7] = True
    filled = imputed(jnp.asarray(ramp)[None, None], jnp.asarray(hole)[None, None])[0, 0]
    np.testing.assert_allclose(filled, ramp, atol=1e-5)


def test_what_is_removed_at_each_percentile_and_how(x64):
    """Most relevant first: at or above the percentile of the map, as NumPy has it."""
    images, maps = RNG.normal(size=(1, 6, 7, 1)), RNG.normal(size=(1, 6, 7))
    flat = lambda images: images.reshape(images.shape[0], -1)  # noqa: E731
    reference = RNG.normal(size=(1, 42))
    args = (flat, images, reference, maps, KEY, fam_jax.dot)
    percentiles = (10, 37.5, 90)
    for order, ranked in (("most", maps[0]), ("least", -maps[0])):
        scores = road(*args, percentiles=percentiles, order=order, noise=0, chunk=2)
        for k, p in enumerate(percentiles):
            image = solved(images[0], ranked >= np.percentile(ranked, p))
            terms = image.ravel() * reference[0]
            assert_close(scores[0, k], terms.sum(), relative_to=terms, rtol=1e-6)


def test_noise_is_on_removed_pixels_only_and_the_same_for_every_image():
    images = jnp.ones((2, 20, 20, 3))
    maps = jnp.asarray(RNG.normal(size=(1, 20, 20)).astype(np.float32)).repeat(2, axis=0)
    spread = lambda images: ((images - 1) ** 2).sum((1, 2))  # noqa: E731
    run = lambda noise: road(  # noqa: E731
        spread, images, jnp.ones((2, 3)), maps, KEY, fam_jax.dot, percentiles=(25, 75), noise=noise
    )
    assert not run(0.0).round(6).any()
    variances = run(0.1)
    np.testing.assert_allclose(variances[0], 0.01 * 3 * np.array([300, 100]), rtol=0.15)
    assert (variances[0] == variances[1]).all()


def test_combined_is_half_the_difference_and_zero_for_a_constant_map(x64):
    images, maps = RNG.normal(size=(2, 5, 5, 2)), RNG.normal(size=(2, 5, 5))
    args = (lambda x: jnp.tanh(x).sum((1, 2)), images, np.ones((2, 2)))
    options = {"percentiles": (20, 60), "noise": 0.0}
    least, most = (road(*args, maps, KEY, order=o, **options) for o in ("least", "most"))
    combined = road_combined(*args, maps, KEY, **options)
    assert_close(combined, (least - most).mean(1) / 2, relative_to=least, rtol=1e-10)
    assert not road_combined(*args, np.ones_like(maps), KEY, **options).any()
