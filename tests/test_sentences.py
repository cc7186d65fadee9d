"""`plot.sentence`: words in boxes, coloured and numbered by their shares."""

from itertools import pairwise

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from fam_jax import plot

SHARES = np.array([-0.02, 0.31, 0.0])
RED_BLUE = matplotlib.colormaps["RdBu_r"]


def boxes(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


def colours(figure):
    return [np.array(box.get_facecolor()[:3]) for box in boxes(figure)]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def places(figure):
    """Left, right, top and bottom of every box, in inches."""
    return [
        (b.get_x(), b.get_x() + b.get_width(), b.get_y(), b.get_y() + b.get_height())
        for b in boxes(figure)
    ]


def test_colours_have_0_in_their_middle_and_numbers_their_sign(tmp_path):
    figure = plot.sentence(["a", "dog", "on"], SHARES, apart={"end": -1.5}, title='"a dog on"')
    figure.savefig(tmp_path / "a.png")
    expected = [RED_BLUE(0.5 + share / 0.62)[:3] for share in SHARES]
    np.testing.assert_allclose(colours(figure), expected)
    assert texts(figure) == ["a", "-0.02", "dog", "+0.31", "on", "+0.00", "end -1.50"]
    assert figure.get_suptitle() == '"a dog on"'
    shared = plot.sentence(["dog"], np.array([0.31]), limits=(-0.62, 0.62), colormap="coolwarm")
    np.testing.assert_allclose(colours(shared)[0], matplotlib.colormaps["coolwarm"](0.75)[:3])


def test_letters_can_be_read_on_their_colour():
    """The lightness of box and letters differs by half of all there is, nearly."""
    words = [str(i) for i in range(21)]
    figure = plot.sentence(words, np.linspace(-1, 1, 21))
    weights = np.array([0.299, 0.587, 0.114])
    for colour, text in zip(colours(figure), figure.axes[0].texts[::2], strict=True):
        ink = np.array(matplotlib.colors.to_rgb(text.get_color()))
        assert abs(weights @ colour - weights @ ink) > 0.45


@pytest.mark.parametrize("width", [3.0, 6.0])
def test_long_sentences_wrap_and_nothing_overlaps(width, tmp_path):
    words = [
        *["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"] * 4,
        "x" * 200,
    ]
    figure = plot.sentence(words, np.linspace(-1e-5, 3e-6, len(words)), width=width)
    figure.savefig(tmp_path / "a.png")
    all_places = places(figure)
    height = figure.get_size_inches()[1]
    assert len({round(top, 6) for _, _, top, _ in all_places}) > 3
    for left, right, top, bottom in all_places:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    for (left, right, top, _), (after, _, below, _) in pairwise(all_places):
        assert after > right if below == top else (below > top and after < left + width)
    # As drawn: letters and numbers stay inside the figure, and numbers apart from each other.
    drawn = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in drawn)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in drawn)
    assert not any(a.overlaps(b) for a, b in zip(drawn[1::2], drawn[3::2], strict=False))


def test_right_to_left_sentences_begin_at_the_right():
    figure = plot.sentence(["שלום", "a", "עולם"], SHARES)
    lefts = [left for left, *_ in places(figure)]
    assert lefts == sorted(lefts, reverse=True)
    assert places(figure)[0][1] == pytest.approx(6 - places(plot.sentence(["a"], SHARES[:1]))[0][0])


def test_letters_of_no_font_and_dollars_are_drawn_as_titles_are(tmp_path, recwarn):
    figure = plot.sentence(["$5_x$", "\U000e0041", "中文"], SHARES)
    figure.savefig(tmp_path / "a.png")
    first, second, third = texts(figure)[::2]
    assert (first, second) == ("$5_x$", r"\U000e0041")
    assert third in ("中文", r"\u4e2d\u6587")
    assert not recwarn


def test_where_nothing_can_be_said_there_is_no_colour_and_no_number(tmp_path):
    figure = plot.sentence(["a", "dog"], np.array([np.nan, 0.25]), apart={"end": np.nan})
    assert texts(figure) == ["a", "dog", "+0.250", "end"]
    assert np.ptp(colours(figure)[0]) == 0
    np.testing.assert_allclose(colours(figure)[1], RED_BLUE(1.0)[:3])
    plot.sentence([], np.zeros(0)).savefig(tmp_path / "none.png")
    flat = plot.sentence(["a"], jnp.zeros(1, "bfloat16"))
    np.testing.assert_allclose(colours(flat)[0], RED_BLUE(0.5)[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": SHARES}, r"shares: expected one for each of 2 words, got shape \(3,\)"),
        ({"limits": (0, 1)}, r"limits: expected \(-a, a\) with a above 0, got \(0, 1\)"),
        ({"limits": (1, -1)}, r"limits: expected \(-a, a\)"),
    ],
)
def test_wrong_arguments_are_refused(options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        plot.sentence(**({"words": ["a", "dog"], "shares": SHARES[:2]} | options))
