"""Pictures of every kind are read as they should be seen, or refused in one line."""

import numpy as np
import pytest
from PIL import Image

from fam_jax.io import pictures

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def saved(tmp_path, picture, name="a.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def test_rgb_is_read_unchanged(tmp_path):
    np.testing.assert_array_equal(pictures.read(saved(tmp_path, Image.fromarray(RGB))), RGB)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "I;16", "I", "F", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    picture = Image.fromarray(RGB)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    name = "a.tif" if mode in ("CMYK", "F", "I", "YCbCr") else "a.png"
    window = (0, 255) if mode in ("I", "F") else None  # of which the type says nothing
    read = pictures.Reader(window=window)(saved(tmp_path, picture, name))
    assert read.mode == "RGB"
    assert read.size == (30, 20)
    if mode in ("L", "LA", "I;16", "I", "F"):
        grey = np.asarray(Image.fromarray(RGB).convert("L")).astype(int)
        assert np.abs(np.asarray(read)[..., 0].astype(int) - grey).max() <= 1


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    file = saved(tmp_path, Image.fromarray(RGB), "a.png", exif=exif)
    np.testing.assert_array_equal(pictures.read(file), np.rot90(RGB, -1))


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.dstack([RGB, np.zeros((20, 30), np.uint8)])
    assert np.asarray(pictures.read(saved(tmp_path, Image.fromarray(rgba)))).min() == 255
    palette = Image.fromarray(RGB).convert("P")
    file = saved(tmp_path, palette, "p.png", transparency=palette.getpixel((0, 0)))
    assert pictures.read(file).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_keep_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    read = np.asarray(pictures.read(saved(tmp_path, Image.fromarray(ramp))))[..., 0]
    np.testing.assert_allclose(read, ramp / 257, atol=1)


def bad_files(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    Image.fromarray(RGB).resize((300, 200)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    Image.fromarray(RGB).resize((300, 200)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("L", (20_000, 10)).save(tmp_path / "wide.png")
    (tmp_path / "folder.png").mkdir()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "no such file"),
        ("folder.png", "is a folder"),
        ("empty.jpg", "is empty"),
        ("text.jpg", "not a picture"),
        ("cut.jpg", "is damaged: .*truncated"),
        ("cut.png", "is damaged"),
        ("dot.png", "1 x 1 pixels; at least 8"),
        ("wide.png", "20000 x 10 pixels; at most 16384"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, name, message):
    bad_files(tmp_path)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        pictures.read(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_stand_for_their_pictures_and_those_in_their_folders(tmp_path):
    (tmp_path / "c" / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "c/deep/d.png"):
        Image.fromarray(RGB).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    paths = [tmp_path / name for name in ("a.JPG", "b.png", "c/deep/d.png")]
    assert pictures.find([paths[1], tmp_path]) == [paths[1], *paths]
    assert pictures.listed(tmp_path) == [str(path) for path in paths]
    (tmp_path / "none" / "in").mkdir(parents=True)
    for look in (pictures.listed, lambda folder: pictures.find([folder])):
        with pytest.raises(FileNotFoundError, match="no pictures in the folder"):
            look(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        pictures.find([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        pictures.listed(tmp_path / "b.png")


def test_pictures_and_folders_behind_urls(tmp_path, monkeypatch):
    epath = pytest.importorskip("etils.epath", reason="needs the bulk extra: etils")

    def bucket(url):
        return tmp_path / url.removeprefix("gs://bucket").lstrip("/")

    saved(tmp_path, Image.fromarray(RGB), "a.png")
    with pytest.raises(
        ValueError, match=r"nowhere://a\.png is an address of a kind that is not read"
    ):
        pictures.read("nowhere://a.png")
    monkeypatch.setattr(epath, "Path", bucket)
    monkeypatch.setattr("fam_jax.io._listing.find_spec", lambda package: package)
    np.testing.assert_array_equal(pictures.read("gs://bucket/a.png"), RGB)
    with pytest.raises(FileNotFoundError, match=r"no such file: gs://bucket/b\.png"):
        pictures.read("gs://bucket/b.png")
    assert pictures.listed("gs://bucket") == [str(tmp_path / "a.png")]
