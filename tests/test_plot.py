"""Overlays and figures."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fam_jax import plot
from pretrained_ports import Preprocess

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


@pytest.mark.parametrize("value", [0, 3])
def test_a_constant_map_has_nothing_to_show(value):
    flat = np.full((2, 2), value, np.float32)
    figure = plot.pair_figure(PICTURE, PICTURE, flat, HEAT)
    assert [ax.get_title() for ax in figure.axes[2:4]] == ["nothing to show", ""]


def test_a_points_figure_marks_every_point_and_its_peak(tmp_path):
    p2p = np.zeros((2, 3, 4, 4), np.float32)
    p2p[0, 2, 3, 1] = 0.25
    figure = plot.points_figure(
        PICTURE, PICTURE, p2p, points=[(0, 2), (1, 0)], score=0.8765, title="cosine"
    )
    figure.savefig(tmp_path / "points.png")
    assert figure.get_suptitle() == "cosine 0.876"
    query, first, second = figure.axes
    assert [first.get_title(), second.get_title()] == ["1   +0.250", "2"]
    places = [np.ravel(line.get_data()).tolist() for line in query.lines]
    assert places == [[30.0, 6.0], [6.0, 18.0]]  # centres of the cells: column, row
    assert np.ravel(first.lines[-1].get_data()).tolist() == [13.5, 21.0]
    assert not second.lines  # a point without shares has no peak
    np.testing.assert_array_equal(second.images[0].get_array(), PICTURE)
    assert len(plot.points_figure(PICTURE, PICTURE, p2p).axes) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p2p": np.zeros((1, 2, 3, 4, 4), np.float32)}, r"p2p: expected shares \[h, w, hr, wr\]"),
        ({"points": [(2, 0)]}, r"points: \(2, 0\) lies outside the query's map of 2 x 3"),
    ],
)
def test_points_that_are_not_there_are_refused(options, message, unchecked):
    p2p = np.zeros((2, 3, 4, 4), np.float32)
    with pytest.raises(ValueError, match=message):
        plot.points_figure(PICTURE, PICTURE, **({"p2p": p2p} | options))


def test_a_map_is_laid_where_the_network_saw_and_the_rest_is_grey():
    out = plot.overlay(PICTURE, HEAT, box=(6, 0, 30, 24))
    np.testing.assert_array_equal(out[:, 6:30], plot.overlay(PICTURE[:, 6:30], HEAT))
    for rest in (out[:, :6], out[:, 30:]):
        assert np.ptp(rest.astype(int), axis=2).max() == 0
    for line in (out[:, 5], out[:, 30]):
        np.testing.assert_array_equal(line, 64)
    assert np.ptp(out[:, 4].astype(int)) > 0


def test_a_box_beyond_the_picture_shows_the_part_of_the_map_that_is_on_it():
    """The picture was padded above and below to a square of 36."""
    padded = np.zeros((36, 36, 3), np.uint8)
    padded[6:30] = PICTURE
    out = plot.overlay(PICTURE, HEAT, box=(0, -6, 36, 30))
    np.testing.assert_array_equal(out, plot.overlay(padded, HEAT)[6:30])


def test_what_a_backbone_opened_knows_its_box():
    view = Preprocess((24, 24), 24).open(PICTURE)
    expected = plot.overlay(PICTURE, HEAT, box=(6, 0, 30, 24))
    np.testing.assert_array_equal(plot.overlay(view, HEAT), expected)


@pytest.mark.parametrize("box", [(36, 0, 40, 24), (0, -9, 36, 0), (5, 5, 5, 9)])
def test_a_box_beside_the_picture_is_refused(box):
    with pytest.raises(ValueError, match="is no part of a picture of 36 x 24 pixels"):
        plot.overlay(PICTURE, HEAT, box=box)


def test_limits_are_drawn_lowest_and_highest():
    np.testing.assert_array_equal(
        plot.overlay(PICTURE, HEAT, limits=(0, 5)), plot.overlay(PICTURE, HEAT)
    )
    np.testing.assert_array_equal(plot.overlay(PICTURE, HEAT, limits=(5, 9)), PICTURE)
    half = plot.overlay(PICTURE, HEAT, limits=(0, 10)).astype(int)
    assert np.abs(half - PICTURE).sum() < np.abs(plot.overlay(PICTURE, HEAT) - PICTURE).sum()


NAMES = {
    "dollars": ("cost_$5_and_$x^{2$.jpg", "cost_$5_and_$x^{2$.jpg"),
    "controls": ("a\rb\t\x07.jpg", r"a\rb\t\x07.jpg"),
    "two lines": ("fam\n99%", "fam\n99%"),
    "right to left": ("שלום.jpg", "שלום.jpg"),  # in DejaVu, which comes with matplotlib
    "of no font": ("a\U000e0041\u0378.jpg", r"a\U000e0041\u0378.jpg"),
    "a lone surrogate": (b"a\xff.jpg".decode("utf-8", "surrogateescape"), r"a\udcff.jpg"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_are_drawn_as_they_are_or_escaped(tmp_path, name, recwarn):
    given, expected = NAMES[name]
    figure = plot.pair_figure(PICTURE, PICTURE, HEAT, HEAT, names=(given, "b"), title=given)
    figure.savefig(tmp_path / "a.png")
    assert figure.axes[0].get_title() == expected
    assert not recwarn


def test_chinese_is_drawn_by_a_font_that_has_it_or_escaped(tmp_path, recwarn):
    figure = plot.grid_figure([[PICTURE]], captions=[["中文.jpg"]])
    figure.savefig(tmp_path / "a.png")
    assert figure.axes[0].get_title() in ("中文.jpg", r"\u4e2d\u6587.jpg")
    assert not recwarn


def test_very_wide_and_very_high_pictures_keep_a_figure_of_reasonable_size(tmp_path):
    wide, high = PICTURE[:2].repeat(20, axis=1), PICTURE[:, :1].repeat(8, axis=0)
    for row in ([wide, PICTURE], [wide], [high]):
        figure = plot.grid_figure([row], captions=[["a name"] * len(row)])
        figure.savefig(tmp_path / "a.png")
        width, height = figure.get_size_inches()
        assert width < 13
        assert height < 3
        for ax in figure.axes:
            assert ax.get_title() == "a name", "there is room for it"
    assert plot.grid_figure([[wide]]).get_size_inches()[1] < 1


def test_a_long_name_is_wrapped_inside_its_picture(tmp_path):
    figure = plot.grid_figure([[PICTURE, PICTURE]], captions=[["a_long_name" * 12, "b"]])
    figure.savefig(tmp_path / "a.png")
    first, second = (ax.title.get_window_extent() for ax in figure.axes)
    assert first.x0 >= 0
    assert first.x1 < second.x0


def test_a_long_title_stays_inside_its_figure(tmp_path):
    figure = plot.pair_figure(PICTURE, PICTURE, HEAT, HEAT, title="a long title of many words " * 6)
    figure.savefig(tmp_path / "a.png")
    box = figure._suptitle.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


WAVE = np.sin(np.arange(40, dtype=np.float32))


def colours_of(figure):
    """Of the pieces of each line of a signal."""
    return [ax.collections[0].get_colors() for ax in figure.axes if ax.lines]


def test_a_signal_is_coloured_where_its_map_is_high():
    heat = np.array([0, 0, 0, 1], np.float32)
    figure = plot.signal(np.stack([WAVE, -WAVE], axis=1), heat, rate=20, names=["a", "b"])
    first, second = colours_of(figure)
    assert len(first) == len(WAVE) - 1  # a piece between each two samples
    np.testing.assert_array_equal(first, second)
    low, high = (np.array(plot.overlays.matplotlib.colormaps["turbo"](x)) for x in (0.0, 1.0))
    np.testing.assert_allclose(first[0], low, atol=0.01)
    np.testing.assert_allclose(first[-1], high, atol=0.01)
    assert figure.axes[1].lines[0].get_xdata()[-1] == pytest.approx(39 / 20)  # seconds


def test_a_signed_map_of_a_signal_says_so_and_a_constant_one_nothing():
    figure = plot.signal(WAVE, np.array([-1, 1], np.float32), title="why")
    assert figure.get_suptitle() == "why\nred above 0, blue below"
    blue, red = colours_of(figure)[0][[0, -1]]
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    figure = plot.signal(WAVE, np.ones(5, np.float32))
    assert figure.get_suptitle() == "nothing to show"
    assert len(np.unique(colours_of(figure)[0], axis=0)) == 1


def test_a_volume_is_cut_where_its_map_peaks():
    """At the middle of the cell, whose size is that of the volume over the map's."""
    heat = np.zeros((2, 3, 4), np.float32)
    heat[0, 1, 2] = 1
    body = np.random.default_rng(0).random((10, 15, 20), np.float32)
    figure = plot.volume(body, heat)
    titles = [ax.get_title() for ax in figure.axes[:3]]
    d, h, w = (int(title.split()[1]) for title in titles)
    assert d <= 2  # edges are held
    assert (h, w) == (7, 12)
    shown = figure.axes[1].images[0].get_array()
    grey = (body[:, h] - body.min()) / np.ptp(body)
    np.testing.assert_allclose(shown[..., 0], grey, atol=1e-6)
    under = np.asarray(figure.axes[4].images[0].get_array()).astype(float)
    most = np.unravel_index(np.ptp(under, axis=2).argmax(), under.shape[:2])
    most = np.array(most) * 10 / under.shape[0]  # in voxels
    assert abs(most[0] - d) <= 3
    assert abs(most[1] - w) <= 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.signal(WAVE, HEAT), r"map: expected one map \[n\] of a signal"),
        (lambda: plot.signal(HEAT[None], WAVE), r"signal: expected one \[t\] or \[t, c\]"),
        (lambda: plot.signal(WAVE, WAVE, names=["a", "b"]), "names: expected 1, one for each"),
        (lambda: plot.signal(WAVE * np.nan, WAVE), "signal: expected finite values"),
        (lambda: plot.volume(HEAT, HEAT[None]), r"volume: expected one of one channel \[d, h, w\]"),
        (lambda: plot.volume(HEAT[None], HEAT), r"map: expected one map of a volume"),
        (lambda: plot.volume(HEAT[None], HEAT[None], at=(0, 0, 2)), "at: .* of 1 x 2 x 2"),
    ],
)
def test_what_is_no_signal_or_volume_is_refused(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
