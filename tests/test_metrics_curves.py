"""Deletion and insertion: curves by hand, against plain loops, and in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fam_jax
from fam_jax.metrics import Curve, aid, deletion, deletion_pairs, insertion, normalised
from fam_jax.metrics._pixels import blurred, pixel_ranks
from tests.close import assert_close

# In float64: scores are differences and quotients of sums.
pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 5, 4, 3))
MAPS = RNG.normal(size=(2, 5, 4))
REFERENCES = RNG.normal(size=(2, 60))


def flat(images):
    return images.reshape(images.shape[0], -1)


def one_pixel(images):
    return images[:, 2, 1, :1]


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


@pytest.mark.parametrize("order", ["most", "least"])
def test_a_score_of_one_pixel_falls_where_the_map_places_it(order):
    """The score is a pixel's value: the curve is a step, the area known."""
    image = np.zeros((1, 5, 4, 1))
    image[0, 2, 1] = 20.0  # the mean is 1
    maps = np.arange(20.0).reshape(1, 5, 4)  # the pixel is the 10th of 20
    one = np.ones((1, 1))
    curve = deletion(one_pixel, image, one, maps, fam_jax.dot, steps=20, order=order, chunk=8)
    gone = 11 if order == "most" else 10
    expected = np.where(np.arange(21) < gone, 20.0, 1.0)
    assert_close(curve.values[0], expected, rtol=1e-12)
    assert_close(curve.area[0], (expected[:-1] + expected[1:]).mean() / 2, rtol=1e-12)


def test_deletion_and_insertion_by_plain_loops():
    """Pixel by pixel from the sorted map, one row's worth a step, another blur from SciPy."""
    removed = deletion(flat, IMAGES, REFERENCES, MAPS)
    put_back = insertion(flat, IMAGES, REFERENCES, MAPS, chunk=3)
    for n in range(2):
        order = np.argsort(-MAPS[n].ravel())
        less = IMAGES[n].reshape(20, 3).copy()
        blur = np.stack(
            [
                gaussian_filter(IMAGES[n, ..., c], 15 / 11, mode="nearest", radius=1)
                for c in range(3)
            ],
            axis=-1,
        ).reshape(20, 3)
        for k in range(6):
            less[order[: 4 * k]] = IMAGES[n].mean((0, 1))
            blur[order[: 4 * k]] = IMAGES[n].reshape(20, 3)[order[: 4 * k]]
            for curve, image in ((removed, less), (put_back, blur)):
                expected = cosine(image.ravel(), REFERENCES[n])
                assert_close(curve.values[n, k], expected, relative_to=1, rtol=1e-10)  # cosines


def test_the_blur_of_the_protocol():
    """At 224 pixels: 11 wide, sigma 5, as SciPy blurs with held edges."""
    image = RNG.normal(size=(1, 224, 230, 1))
    expected = gaussian_filter(image[0, ..., 0], 5, mode="nearest", radius=5)
    assert_close(blurred(jnp.asarray(image))[0, ..., 0], expected, rtol=1e-12)


def test_both_images_of_a_pair_lose_their_own_pixels():
    """Of other sizes too: the same share of each, step by step."""
    other = RNG.normal(size=(2, 3, 4, 3))
    other_maps = RNG.normal(size=(2, 3, 4))
    pooled = lambda images: jnp.tanh(images).sum((1, 2))  # noqa: E731
    curve = deletion_pairs(pooled, IMAGES, other, MAPS, other_maps, steps=4, chunk=2)
    for n in range(2):
        for k in range(5):
            embeddings = []
            for x, m in ((IMAGES[n], MAPS[n]), (other[n], other_maps[n])):
                x, size = x.reshape(-1, 3).copy(), m.size
                x[np.argsort(-m.ravel())[: size * k // 4]] = x.mean(0)
                embeddings.append(np.tanh(x).sum(0))
            assert_close(curve.values[n, k], cosine(*embeddings), relative_to=1, rtol=1e-10)


def test_equal_pixels_go_in_a_scattered_order_always_the_same():
    """Otherwise a constant map would be a scan of rows, and win where objects are at the top."""
    ranks = np.asarray(pixel_ranks(jnp.ones((2, 3, 3)), (16, 16), "most"))
    assert (np.sort(ranks[0].ravel()) == np.arange(256)).all()
    assert (ranks[0] == ranks[1]).all()
    assert (ranks[0] == pixel_ranks(jnp.zeros((1, 1, 1)), (16, 16), "least")[0]).all()
    per_row = (ranks[0] < 128).sum(1)  # half of the pixels: about 8 of each row
    assert per_row.min() >= 3
    assert per_row.max() <= 13


def test_aid_is_the_area_between_and_zero_for_a_constant_map():
    most, least = (deletion(flat, IMAGES, REFERENCES, MAPS, order=o) for o in ("most", "least"))
    between = aid(flat, IMAGES, REFERENCES, MAPS)
    assert_close(between, least.area - most.area, relative_to=1, rtol=1e-10)  # cosines
    assert_close(aid(flat, IMAGES, REFERENCES, -MAPS), -between, relative_to=1, rtol=1e-10)
    assert not aid(flat, IMAGES, REFERENCES, np.ones_like(MAPS)).any()


def test_normalised_curves_run_from_the_whole_to_the_empty_image():
    down = normalised(Curve(jnp.array([[5.0, 4.0, 3.0], [2.0, 9.0, 2.0]]), jnp.ones(2)))
    np.testing.assert_allclose(down.values, [[1, 0.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(down.area, [0.5, 0.0])
    up = normalised(Curve(jnp.array([[3.0, 3.0, 5.0]]), jnp.ones(1), full_first=False))
    np.testing.assert_allclose(up.values, [[0, 0, 1]])
    assert not up.full_first


def test_memory_does_not_grow_with_the_steps():
    """Eight masked copies at a time, however many there are in all; only the curve grows."""
    image, maps = jnp.ones((2, 64, 64, 3)), jnp.ones((2, 8, 8))
    whole = lambda images: jnp.sort(images, axis=1).mean((1, 2))  # noqa: E731

    def temporary(steps):
        run = lambda *args: deletion(whole, *args, steps=steps, chunk=8).area  # noqa: E731
        compiled = jax.jit(run).lower(image, jnp.ones((2, 3)), maps).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary(15), temporary(255)
    assert few > 8 * image.nbytes
    assert many - few < 2 * 4 * 240 * 4  # the values, and a copy
