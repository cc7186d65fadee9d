"""From pictures to arrays."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

PHOTOGRAPH = ENTRIES["resnet50"].preprocess
OMNIGLOT = ENTRIES["conv4-omniglot"].preprocess


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_arrays_and_pictures_give_the_same():
    pixels = noise(300, 400, 3)
    given_picture = PHOTOGRAPH(Image.fromarray(pixels))
    assert given_picture.shape == (224, 224, 3)
    assert given_picture.dtype == np.float32
    np.testing.assert_array_equal(given_picture, PHOTOGRAPH(pixels))
    np.testing.assert_array_equal(given_picture, PHOTOGRAPH(jnp.asarray(pixels)))


def test_no_resizing_leaves_only_the_normalisation():
    pixels = noise(32, 32, 3)
    expected = (pixels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(Preprocess((32, 32), 32)(pixels), expected, rtol=1e-5, atol=1e-6)


def test_view_is_what_the_network_sees():
    pixels = noise(300, 400, 3)
    view = PHOTOGRAPH.view(pixels)
    assert view.size == (224, 224)
    assert view.mode == "RGB"
    back = PHOTOGRAPH(pixels) * np.float32(IMAGENET_STD) + np.float32(IMAGENET_MEAN)
    np.testing.assert_array_equal(np.round(back * 255).astype(np.uint8), np.asarray(view))


def test_the_region_is_never_outside_the_picture():
    """PIL refuses a box that rounding moved by 1e-14."""
    for resize in (84, 92, 256):
        preprocess = Preprocess(size=(84, 84), resize=resize)
        for size in ((660, 495), (174, 290), (333, 500), (7, 7)):
            left, top, right, bottom = preprocess.region(size)
            assert 0 <= left < right <= size[0]
            assert 0 <= top < bottom <= size[1]


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (224, 224), (100, 900)])
def test_a_padded_picture_is_seen_whole(size):
    """The box is where the input lies on the picture: a mark is found where the box says."""
    preprocess = replace(PHOTOGRAPH, fit="pad")
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 255
    view = preprocess.open(pixels)
    left, top, right, bottom = view.box
    assert max(left, top) <= 0
    assert right >= width
    assert bottom >= height
    assert right - left == pytest.approx(bottom - top)
    levels = np.asarray(preprocess.view(pixels)).astype(int)
    scale = 224 / (right - left)
    x, y = (round(scale * (at - start)) for at, start in ((width / 4, left), (height / 4, top)))
    assert levels[y, x].min() > 250
    if min(size) == max(size):
        assert view.box == (0, 0, width, height)
    else:
        np.testing.assert_allclose(view.input[0, 0], 0, atol=0.02)  # the mean colour


def test_drawings_are_padded_with_white():
    preprocess = Preprocess((28, 28), None, (0.0,), (1.0,), fit="pad", scale="minmax")
    drawing = np.full((20, 80), 255, np.uint8)
    drawing[8:12] = 0
    assert preprocess(drawing)[0, 0, 0] == 1


def test_a_file_is_opened_upright_and_on_white(tmp_path):
    picture = Image.fromarray(noise(30, 60, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    picture.save(tmp_path / "a.png", exif=exif)
    view = PHOTOGRAPH.open(tmp_path / "a.png")
    assert view.picture.size == (30, 60)
    assert view.box == PHOTOGRAPH.region((30, 60))
    np.testing.assert_array_equal(view.input, PHOTOGRAPH(view.picture))
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "b.png")
    white = PHOTOGRAPH(Image.new("RGB", (40, 40), "white"))
    np.testing.assert_array_equal(PHOTOGRAPH.open(str(tmp_path / "b.png")).input, white)


def test_files_that_are_no_pictures_are_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.png"):
        PHOTOGRAPH.open(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError, match="directory"):
        PHOTOGRAPH.open(tmp_path)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match=r"text\.png is not a picture"):
        PHOTOGRAPH.open(tmp_path / "text.png")
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.png is damaged: .*") as caught:
        PHOTOGRAPH.open(tmp_path / "cut.png")
    assert "\n" not in str(caught.value)


def test_grey_arrays_become_three_equal_channels():
    grey = noise(64, 64)
    view = np.asarray(Preprocess((32, 32), 40).view(grey[:, :, None]))
    np.testing.assert_array_equal(view, np.asarray(Preprocess((32, 32), 40).view(grey)))
    np.testing.assert_array_equal(view[:, :, 0], view[:, :, 2])


def test_omniglot_is_grey_with_its_own_range_and_dark_ink():
    drawing = np.full((105, 105), 255, np.uint8)
    drawing[40:60, 20:80] = 0
    given_image = OMNIGLOT(Image.fromarray(drawing).convert("1"))
    assert given_image.shape == (28, 28, 1)
    assert given_image.min() == 0
    assert given_image.max() == 1
    assert given_image[13, 14, 0] == 0  # ink
    assert given_image[0, 0, 0] == 1  # paper
    assert OMNIGLOT.view(drawing).mode == "L"


def test_a_blank_drawing_is_zero_and_not_nan():
    np.testing.assert_array_equal(OMNIGLOT(np.full((105, 105), 255, np.uint8)), 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("preprocess", [PHOTOGRAPH, OMNIGLOT], ids=["colour", "grey"])
def test_pictures_of_any_eight_bit_mode(preprocess, mode):
    picture = Image.fromarray(noise(40, 50, 3)).convert(mode)
    assert np.isfinite(preprocess(picture)).all()


def test_a_palette_with_transparency_does_not_warn():
    picture = Image.fromarray(noise(40, 50, 3)).convert("P")
    picture.info["transparency"] = bytes(range(256))
    assert PHOTOGRAPH.view(picture).mode == "RGB"


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_any_size_gives_the_size_of_the_network(height, width):
    assert Preprocess((24, 20), 24)(np.zeros((height, width, 3), np.uint8)).shape == (24, 20, 3)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((8, 8, 3)), TypeError, "array of float64; expected uint8"),
        ("cat.png", TypeError, "image is a str; expected a PIL image or a uint8 array"),
        (np.zeros((2, 8, 8, 3), np.uint8), ValueError, r"shape \[2, 8, 8, 3\]; expected \[H W\]"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r"shape \[8, 8, 4\]"),
        (np.zeros((0, 8), np.uint8), ValueError, r"shape \[0, 8\]"),
        (Image.new("I;16", (8, 8)), ValueError, "mode 'I;16'; expected 8 bits"),
        (Image.new("F", (8, 8)), ValueError, "mode 'F'; expected 8 bits"),
    ],
)
def test_bad_pictures_are_refused(image, error, message):
    with pytest.raises(error, match=message) as caught:
        PHOTOGRAPH(image)
    assert "\n" not in str(caught.value)


def test_contradicting_options_are_refused():
    with pytest.raises(ValueError, match="resize 200 is smaller than the crop"):
        Preprocess((224, 224), 200)
    with pytest.raises(ValueError, match="1 or 3 numbers each, got 3 and 1"):
        Preprocess((224, 224), 256, std=(1.0,))


@pytest.mark.parametrize("shape", [(24, 24), (24, 36)])
@given(st.integers(1, 300), st.integers(1, 300))
def test_windows_cover_the_picture_and_share_half_with_their_neighbours(shape, width, height):
    windows = np.array(Preprocess(shape, 40).windows((width, height)))
    wide, high = (windows[:, 2:] - windows[:, :2]).T
    np.testing.assert_allclose(wide * shape[0], high * shape[1])
    assert np.isclose(max(wide[0] / width, high[0] / height), 1)
    np.testing.assert_array_equal(windows[0, :2], 0)
    np.testing.assert_allclose(windows[-1, 2:], (width, height))
    assert (np.diff(windows[:, :2], axis=0) <= np.stack([wide, high], 1)[1:] / 2 + 1e-9).all()
    assert windows.min() >= 0
    assert (windows[:, 2:] <= (width, height)).all()


def test_a_part_of_a_picture_is_opened_as_it_is():
    pixels = noise(60, 90, 3)
    view = replace(PHOTOGRAPH, fit="pad").open(pixels, (30.0, 0.0, 90.0, 60.0))
    assert view.box == (30, 0, 90, 60)
    assert view.picture.size == (90, 60)
    square = Preprocess((224, 224), 224, interpolation=PHOTOGRAPH.interpolation)
    inside = np.s_[:, 5:]  # its pixels at the edge are interpolated with those beyond
    np.testing.assert_array_equal(view.input[inside], square(pixels[:, 30:])[inside])
