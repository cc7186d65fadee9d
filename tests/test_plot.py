"""Overlays and figures."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fam_jax import plot

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
HEAT = np.array([[0.0, 0.0], [0.0, 5.0]], np.float32)


def test_low_values_leave_the_picture_and_high_ones_colour_it():
    out = plot.overlay(PICTURE, HEAT)
    assert out.shape == PICTURE.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out[:6, :9], PICTURE[:6, :9])
    red = 0.65 * np.array([0.4796, 0.01583, 0.01055]) * 255 + 0.35 * PICTURE[-1, -1]
    np.testing.assert_allclose(out[-1, -1], red, atol=1.5)  # turbo's last colour


def test_a_constant_map_leaves_the_picture_as_it_is():
    np.testing.assert_array_equal(plot.overlay(PICTURE, np.full((2, 2), 3.0, np.float32)), PICTURE)


def test_pictures_may_be_pil_uint8_grey_or_float():
    expected = plot.overlay(PICTURE, HEAT)
    np.testing.assert_array_equal(plot.overlay(Image.fromarray(PICTURE), HEAT), expected)
    np.testing.assert_array_equal(
        plot.overlay(np.float32(PICTURE) / 255, jnp.asarray(HEAT)), expected
    )
    assert plot.overlay(PICTURE[..., 0], HEAT).shape == PICTURE.shape


@pytest.mark.parametrize(
    ("picture", "heat", "error", "message"),
    [
        (PICTURE[None], HEAT, ValueError, r"image: expected \[H, W, 3\]"),
        (PICTURE.astype(np.int32), HEAT, TypeError, "expected uint8 or floats"),
        (PICTURE / 100, HEAT, ValueError, "before its normalisation"),
        (PICTURE, HEAT[None], ValueError, r"map: expected one map \[h, w\]"),
    ],
)
def test_wrong_arguments_are_refused(picture, heat, error, message, unchecked):
    with pytest.raises(error, match=message):
        plot.overlay(picture, heat)


def test_a_pair_figure_shows_the_score_and_both_names(tmp_path):
    figure = plot.pair_figure(
        PICTURE, PICTURE, HEAT, HEAT, score=0.8765, title="cosine", names=("a.jpg", "b.jpg")
    )
    figure.savefig(tmp_path / "pair.png")
    assert figure.get_suptitle() == "cosine 0.876"
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a.jpg", "b.jpg"]
    with Image.open(tmp_path / "pair.png") as picture:
        assert picture.size[0] > 300
