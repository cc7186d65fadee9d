"""Average drop, increase, coherency, complexity, sensitivity, completeness: closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax.metrics import (
    average_drop,
    coherency,
    completeness_error,
    complexity,
    increase,
    masked_scores,
    max_sensitivity,
)
from tests.close import assert_close

# In float64: scores are differences and quotients of sums.
pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)


def total(images):
    return images.sum((1, 2))


def test_scores_of_what_a_map_shows():
    """A score that is a sum of pixels keeps what the map keeps: drops and increases by hand."""
    image = np.tile(np.array([[6.0, 2.0]], np.float32)[None, :, :, None], (4, 1, 1, 1))
    image[2] *= -1
    image[3, 0, 1] = -2
    maps = np.tile(np.array([[[1.0, 0.0]]], np.float32), (4, 1, 1))
    maps[1] = [[0.0, 5.0]]
    args = (total, image, np.ones((4, 1), np.float32), maps, fam_jax.dot)
    s, masked = masked_scores(*args)
    np.testing.assert_allclose(s, [8, 8, -8, 4])
    np.testing.assert_allclose(masked, [6, 2, -6, 6])
    np.testing.assert_allclose(average_drop(*args), [0.25, 0.75, 0.0, 0.0])
    np.testing.assert_allclose(increase(*args), [0, 0, 1, 1])


def test_the_part_that_is_shown_is_the_upsampled_map():
    image, maps = RNG.random((1, 4, 6, 2)), RNG.normal(size=(1, 2, 3))
    _, masked = masked_scores(total, image, np.ones((1, 2)), maps, fam_jax.dot)
    shown = fam_jax.rescale(fam_jax.upsample(maps, (4, 6)))
    assert_close(masked, (image * shown[..., None]).sum((1, 2, 3)), rtol=1e-10)


def test_coherency_is_a_correlation_as_numpy_has_it():
    images = RNG.random((3, 4, 5, 2))
    explain = lambda x: jnp.square(x).sum(-1) - x[..., 0]  # noqa: E731
    maps = np.asarray(explain(images))
    again = np.asarray(explain(images * fam_jax.rescale(maps)[..., None]))
    expected = [
        (np.corrcoef(a.ravel(), b.ravel())[0, 1] + 1) / 2 for a, b in zip(maps, again, strict=True)
    ]
    assert_close(coherency(explain, images), np.array(expected), rtol=1e-10)
    constant = lambda x: jnp.ones(x.shape[:3])  # noqa: E731
    assert coherency(constant, images).tolist() == [0.5] * 3


def test_complexity_is_the_share_of_a_binary_map():
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0, :2, :2] = 7.0
    np.testing.assert_allclose(complexity(maps), [0.25, 0.0])


def test_sensitivity_of_a_linear_map_is_that_of_its_noise():
    """M(x) = x: the change is the noise; every sample within the radius, the largest counts."""
    images = jnp.ones((2, 8, 8, 1)) * jnp.array([1.0, 4.0])[:, None, None, None]
    first = lambda x: x[..., 0]  # noqa: E731
    run = lambda samples: max_sensitivity(first, images, jax.random.key(0), samples=samples)  # noqa: E731
    few, many = run(2), run(50)
    # The norm of n uniform numbers in [-r, r] is near r sqrt(n / 3).
    np.testing.assert_allclose(few[0], 0.2 / 3**0.5, rtol=0.15)
    assert few[0] < many[0] <= 0.2
    assert_close(many[0], 4 * many[1], rtol=1e-10)
    assert max_sensitivity(lambda x: 0 * first(x), images, jax.random.key(0)).tolist() == [0, 0]


def test_completeness_holds_for_decomposition_of_a_linear_head():
    encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
    images, references = RNG.normal(size=(3, 4, 4, 6)), RNG.normal(size=(3, 6))
    out = fam_jax.explain(encode, images, references, method=fam_jax.decomposition())
    error = completeness_error(out.maps, out.scores)
    assert_close(error, np.zeros(3), relative_to=out.maps, rtol=1e-10)
    double = completeness_error(2 * out.maps, out.scores)
    assert_close(double, abs(out.scores), relative_to=out.maps, rtol=1e-10)
