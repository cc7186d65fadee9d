"""Pictures as strangers have them: grey of any depth, pages, profiles, folders of all sorts."""

import os

import numpy as np
import pytest
from PIL import Image, ImageCms

from fam_jax import bulk
from fam_jax.io import pictures
from pretrained_ports.preprocess import Preprocess
from tests.bulk import toy
from tests.commands import TINY, run

RAMP = np.arange(600).reshape(20, 30)


def grey(folder, levels, dtype=np.uint16, name="a.png"):
    Image.fromarray(np.asarray(levels).astype(dtype)).save(folder / name)
    return folder / name


def levels_of(path, **options):
    return np.asarray(pictures.Reader(**options)(path))[..., 0].astype(int)


@pytest.mark.parametrize("odd", [0, 255, 256, 65535])
def test_one_pixel_does_not_change_what_the_others_are(tmp_path, odd):
    """16 bits are 16 bits, whatever the largest value is."""
    ramp = RAMP * 100
    ramp[0, 0] = odd
    np.testing.assert_allclose(levels_of(grey(tmp_path, ramp)), ramp / 257, atol=0.51)


@pytest.mark.parametrize("most", [255, 1023, 4095, 16383])
def test_little_of_the_range_is_said_and_a_window_shows_it(tmp_path, most):
    ramp = np.round(RAMP * (most / RAMP.max()))
    file = grey(tmp_path, ramp)
    with pytest.warns(pictures.PictureWarning, match=rf"a\.png holds values from 0 to {most}, lit"):
        dark = levels_of(file)
    np.testing.assert_allclose(dark, ramp / 257, atol=0.51)
    np.testing.assert_allclose(levels_of(file, window=(0, most)), ramp * 255 / most, atol=0.51)


def test_a_picture_of_one_grey_level_is_no_dark_one(tmp_path):
    assert levels_of(grey(tmp_path, np.full((20, 30), 300))).max() == 1


@pytest.mark.parametrize("odd", [1.0, 1.002, 40.0, -3.0, np.inf])
def test_floats_are_from_0_to_1(tmp_path, odd):
    ramp = RAMP / RAMP.max()
    ramp[0, 0] = odd
    if odd == np.inf:
        with pytest.warns(pictures.PictureWarning, match="1 of its grey levels are not finite"):
            read = levels_of(grey(tmp_path, ramp, np.float32, "a.tif"))
    else:
        read = levels_of(grey(tmp_path, ramp, np.float32, "a.tif"))
    np.testing.assert_allclose(read[1:], 255 * ramp[1:], atol=0.51)


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 255), (np.float32, 2), (np.int32, 255)])
def test_values_of_no_known_range_are_refused_without_a_window(tmp_path, dtype, scale):
    ramp = RAMP / RAMP.max() * scale
    file = grey(tmp_path, ramp, dtype, "a.tif")
    with pytest.raises(ValueError, match=rf"a\.tif holds values from 0 to {scale}, .*--window"):
        pictures.read(file)
    read = levels_of(file, window=(0, scale))
    np.testing.assert_allclose(
        read, np.floor(ramp) if dtype == np.int32 else 255 * ramp / scale, atol=1
    )


def test_nothing_but_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.tif has no finite grey level"):
        pictures.read(grey(tmp_path, np.full((20, 30), np.nan), np.float32, "a.tif"))


def test_windows_clip_and_leave_eight_bits_alone(tmp_path):
    read = levels_of(grey(tmp_path, RAMP), window=(100, 200))
    assert (read[RAMP <= 100] == 0).all()
    assert (read[RAMP >= 200] == 255).all()
    eight = grey(tmp_path, RAMP // 4, np.uint8, "b.png")
    np.testing.assert_array_equal(levels_of(eight, window=(0, 10)), RAMP // 4)
    for window in ((1, 1), (2, 1), (0, np.nan)):
        with pytest.raises(ValueError, match="window: expected two numbers, low < high"):
            pictures.Reader(window=window)


def pages(folder, name, count=3, **options):
    frames = [Image.new("L", (20, 20), 60 * (i + 1)) for i in range(count)]
    frames[0].save(folder / name, save_all=True, append_images=frames[1:], **options)
    return folder / name


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png"])
def test_several_pages_are_refused_and_one_is_taken(tmp_path, name):
    options = {"lossless": True} if name == "a.webp" else {}
    file = pages(tmp_path, name, **options)
    with pytest.raises(ValueError, match=rf"{name} has 3 pages, or frames; take one with --page N"):
        pictures.read(file)
    for page in (1, 2, 3):
        assert abs(levels_of(file, page=page).mean() - 60 * page) < 2
    with pytest.raises(ValueError, match="has 3 pages: there is no page 4"):
        pictures.Reader(page=4)(file)
    with pytest.raises(ValueError, match="has 3 pages"):
        Preprocess((8, 8), None).open(file)


def test_smaller_copies_and_parts_are_no_pages(tmp_path):
    """A TIFF with a thumbnail, a camera's MPO with a preview."""
    first, second = Image.new("L", (40, 40), 90), Image.new("L", (20, 20), 10)
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second.copy()])
    second.encoderinfo = {"tiffinfo": {254: 1}}
    first.copy().save(tmp_path / "a.tif", save_all=True, append_images=[second])
    for name in ("a.tif", "a.mpo"):
        assert (levels_of(tmp_path / name) == 90).all()


def wide_gamut():
    """The profile of a space unlike sRGB: red and blue are exchanged."""
    swapped = ImageCms.createProfile("sRGB")
    data = bytearray(ImageCms.ImageCmsProfile(swapped).tobytes())
    tags = {bytes(data[i : i + 4]): i for i in range(132, len(data) - 4, 4)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("kept", [False, True])
def test_colours_are_converted_to_srgb(tmp_path, mode, kept):
    """By the library and by the backbones' preprocessing alike."""
    picture = Image.fromarray(PHOTO).convert(mode)
    picture.save(tmp_path / "a.png", icc_profile=wide_gamut())
    read = pictures.Reader(convert=not kept)(tmp_path / "a.png")
    expected = np.asarray(picture.convert("RGB"))
    if not kept:
        expected = expected[..., ::-1]
        assert "icc_profile" not in read.info
        preprocess = Preprocess((20, 30), None)
        with Image.open(tmp_path / "a.png") as file:
            for theirs in (preprocess.view(file), preprocess.open(tmp_path / "a.png").picture):
                np.testing.assert_array_equal(np.asarray(theirs.convert("RGB")), np.asarray(read))
    assert np.abs(np.asarray(read.convert("RGB"), int) - expected).max() <= 2


def test_srgb_itself_changes_no_level(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PHOTO).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png"), PHOTO)


@pytest.mark.parametrize("profile", [b"no profile", wide_gamut()[:200]])
def test_a_damaged_profile_is_said(tmp_path, profile):
    Image.fromarray(PHOTO).save(tmp_path / "a.png", icc_profile=profile)
    with pytest.warns(pictures.PictureWarning, match=r"a\.png: its colour profile is damaged"):
        np.testing.assert_array_equal(pictures.read(tmp_path / "a.png"), PHOTO)


def test_a_job_gets_the_picture_as_the_file_holds_it(tmp_path):
    file = grey(tmp_path, RAMP)
    seen = []

    def preprocess(picture):
        seen.append(picture.mode)
        values = np.asarray(picture.resize((toy.SIDE, toy.SIDE)), np.float32)
        return np.repeat(values[..., None] / 600, 3, axis=2)

    reader = pictures.Reader(convert=False)
    told = {"preprocess": preprocess, "reader": reader}
    done = bulk.run(toy.encoder(), [(str(file), str(file))], tmp_path / "store", **told)
    assert (done.invalid, set(seen)) == (0, {"I;16"})
    assert bulk.open_store(tmp_path / "store").settings["reading"] == {"convert": False}


def test_the_commands_read_all_of_a_job_alike(tmp_path):
    """Query, hits, and the report's pictures, which the store says how to read."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        grey(tmp_path / "in", rng.integers(0, 4096, (40, 40)), name=f"{i}.png")
    window = ("--window", 0, 4095)
    small = (*TINY, "--image-size", 64)
    dark = run("index", tmp_path / "in", *small, "-o", tmp_path / "dark")
    assert dark.output.count("warning: ") == 1
    made = run("index", tmp_path / "in", *small, *window, "-o", tmp_path / "index")
    assert (made.exit_code, "warning" in made.output) == (0, False)
    asked = ("retrieve", tmp_path / "in" / "0.png", "--index", tmp_path / "index", "--top", 2)
    found = run(*asked, "-o", tmp_path / "report")
    assert (found.exit_code, "warning" in found.output) == (0, False), found.output
    with Image.open(tmp_path / "report" / "picture-00001.jpg") as shown:
        assert np.asarray(shown).mean() > 100
    wrong = run("explain", "a.png", "b.png", "--window", 5, 5)
    assert (wrong.exit_code, "--window: expected two numbers" in wrong.output) == (2, True)
    wrong = run("map", "a.csv", "--page", 0)
    assert (wrong.exit_code, "--page" in wrong.output) == (2, True)


def test_folders_give_what_pillow_opens_once(tmp_path):
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    picture = Image.fromarray(PHOTO)
    formats = {"a.jfif": "JPEG", "a.avif": "AVIF", "a.jp2": "JPEG2000", "a.jpe": "JPEG"}
    formats |= {"a.tga": "TGA", "suffixless": "PNG", "deep/a.JPG": "JPEG", "a.jpg.1": "JPEG"}
    for name, kind in formats.items():
        picture.save(tmp_path / name, kind)
    for name in ("._a.jpg", "deep/.hidden/b.png"):
        picture.save(tmp_path / name)
    for name in ("notes.txt", "data", "b.pdf", "b.eps"):
        (tmp_path / name).write_text("%!PS-Adobe no picture")
    for i in range(2):
        os.symlink(tmp_path, tmp_path / "deep" / f"circle{i}")
        os.symlink(tmp_path / "deep", tmp_path / f"again{i}")
    os.mkfifo(tmp_path / "pipe.png")
    found = pictures.scan(tmp_path)
    assert found.files == sorted(str(tmp_path / name) for name in formats)
    assert found.skipped == {
        "hidden": 2,
        "no pictures": 4,
        "links to folders that were read": 4,
        "neither files nor folders": 1,
    }
    assert str(found).startswith("8 pictures; left out: 2 hidden, 4 links")
    with pytest.raises(ValueError, match=r"pipe\.png is a pipe or a device"):
        pictures.read(tmp_path / "pipe.png")


def test_a_gallery_says_what_it_left_out(tmp_path):
    for i in range(2):
        Image.fromarray(PHOTO).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    made = run("index", tmp_path, *TINY, "--image-size", 64, "-o", tmp_path / "index")
    assert "2 pictures; left out: 1 no pictures" in made.output


def test_too_many_pixels_are_refused(tmp_path):
    Image.new("1", (13_300, 13_300)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="13300 x 13300 pixels; at most 100,000,000 are read"):
        pictures.read(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has too many pixels; shrink it first"):
        Preprocess((8, 8), None).open(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is a pipe or a device"):
        Preprocess((8, 8), None).open(tmp_path / "pipe.png")


def test_one_kind_of_warning_does_not_hide_another(tmp_path):
    """Of a job's pictures the first of every kind is named."""
    dark = [grey(tmp_path, RAMP, name=name) for name in ("a.png", "b.png")]
    odd = tmp_path / "c.png"
    Image.new("RGB", (20, 20)).save(odd, icc_profile=b"no profile")

    def job():
        with pictures.reading():
            for path in (*dark, odd):
                pictures.Reader().read_in_thread(path)

    with pytest.warns(pictures.PictureWarning) as told:
        job()
    said = [str(warning.message) for warning in told]
    assert len(said) == 2
    assert "a.png holds values" in said[0]
    assert "c.png: its colour profile is damaged" in said[1]
