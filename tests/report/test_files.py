"""The files of a report: thumbnails, maps, manifest; whole or not at all, the same every time."""

import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fam_jax import plot, report
from fam_jax.io import pictures
from fam_jax.plot import heat
from tests.report import stand_in

pytest.importorskip("jinja2", reason='needs pip install ".[report]"')


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_page_comes_first_and_every_file_is_listed(store, tmp_path):
    files = report.write(store, tmp_path / "out")
    assert files[0] == tmp_path / "out" / "index.html"
    assert {file.name for file in files} == set(contents(tmp_path / "out"))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["command"] == "report"
    assert manifest["pairs"]["indices"] == list(range(12))
    assert manifest["settings"]["model"] == "tiny"
    assert sorted(file.name for file in files) == sorted(manifest["files"])


def test_the_same_store_gives_the_same_bytes(files, tmp_path):
    for name in ("one", "two"):
        report.write(stand_in.store_of(files, 12), tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_picture_is_read_and_written_once_for_every_part(store, tmp_path):
    read = []

    def counted(path):
        read.append(path)
        return pictures.read(path)

    report.write(store, tmp_path, read=counted)
    parts = {(r.query, r.query_box) for r in store.made}
    parts |= {(r.reference, r.reference_box) for r in store.made}
    assert len(read) == len(parts) == len(list(tmp_path.glob("picture-*.jpg")))


def test_a_thumbnail_is_the_part_that_the_network_saw(tmp_path):
    picture = np.zeros((400, 900, 3), np.uint8)
    picture[100:300, 200:800] = 255
    heat = np.eye(4, dtype=np.float32)
    row = stand_in.row(
        0, "a", "b", query_map=heat, reference_map=heat, query_box=(200.0, 100.0, 800.0, 300.0)
    )
    report.write(stand_in.Store([row]), tmp_path, read=lambda path: Image.fromarray(picture))
    with Image.open(tmp_path / "picture-00001.jpg") as written:
        assert written.size == (320, 107)
        assert np.asarray(written)[2:-2, 2:-2].min() > 250  # the resampling reaches beyond the edge
    with Image.open(tmp_path / "picture-00002.jpg") as whole:
        assert whole.size == (320, 142)


def test_a_box_that_was_rounded_is_still_inside(tmp_path):
    row = stand_in.row(0, "a", "b", query_box=(-1e-5, 0.0, 32.00001, 24.0))
    report.write(stand_in.Store([row]), tmp_path, read=lambda path: Image.new("RGB", (32, 24)))
    with Image.open(tmp_path / "picture-00001.jpg") as written:
        assert written.size == (32, 24)


def test_a_padded_picture_is_shown_whole_with_its_part_of_the_map(tmp_path):
    """The margin's share of the map is cut off: what is left lies as in `plot.overlay`."""
    box, picture = (0.0, -100.0, 400.0, 300.0), np.full((200, 400, 3), 128, np.uint8)
    map_ = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    row = stand_in.row(0, "a", "b", query_map=map_, query_box=box)
    report.write(stand_in.Store([row]), tmp_path, read=lambda path: Image.fromarray(picture))
    with Image.open(tmp_path / "picture-00001.jpg") as written:
        shown = np.asarray(written.convert("RGB"))
    assert shown.shape == (160, 320, 3)
    with Image.open(tmp_path / "map-0000000-query.png") as file:
        layer = np.asarray(file.convert("RGBA").resize((400, 200)), np.float32) / 255
    t = 0.65 * layer[..., 3:]
    seen = (1 - t) * picture / 255 + t * layer[..., :3]
    expected = plot.overlay(picture, map_, box=box) / 255
    inside = slice(4, -4), slice(4, -4)  # of the frame
    assert np.abs(seen - expected)[inside].mean() < 0.02
    elsewhere = plot.overlay(picture, map_) / 255
    assert np.abs(seen - elsewhere)[inside].mean() > 0.05


def test_the_padding_of_another_picture_is_none_of_this_one(tmp_path):
    row = stand_in.row(0, "a", "b", query_box=(0.0, -100.0, 400.0, 300.0))
    report.write(stand_in.Store([row]), tmp_path, read=lambda path: Image.new("RGB", (400, 260)))
    assert "not the picture that was explained" in (tmp_path / "index.html").read_text()


def test_small_pictures_are_not_enlarged(tmp_path):
    row = stand_in.row(0, "a", "b")
    report.write(stand_in.Store([row]), tmp_path, read=lambda path: Image.new("RGB", (32, 24)))
    with Image.open(tmp_path / "picture-00001.jpg") as written:
        assert written.size == (32, 24)


@pytest.mark.parametrize("size", [(7, 7), (14, 10), (224, 224)])
def test_picture_and_map_together_are_the_overlay(size, tmp_path):
    """What the browser draws at first is `plot.overlay`, up to the map's smaller file."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.standard_normal((5, 6)).astype(np.float32))
    map_ = np.asarray(smooth.resize(size, Image.Resampling.BICUBIC))
    picture = rng.integers(0, 256, (160, 240, 3), np.uint8)
    heat.save(heat.scaled(map_, (240, 160)), tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as file:
        assert file.size == (96, 64)
        premultiplied = file.convert("RGBA").convert("RGBa")
        rgba = premultiplied.resize((240, 160), Image.Resampling.BILINEAR).convert("RGBA")
    colour, t = np.split(np.asarray(rgba) / 255, [3], axis=2)
    drawn = 255 * (colour * heat.OPACITY * t + (1 - heat.OPACITY * t) * picture / 255)
    difference = np.abs(drawn - plot.overlay(picture, map_))
    assert difference.mean() < 2
    assert np.quantile(difference, 0.99) < 12


def test_the_opacity_at_first_is_that_of_overlays():
    assert inspect.signature(plot.overlay).parameters["alpha"].default == heat.OPACITY


@pytest.mark.parametrize(
    ("settings", "option", "left_out"),
    [
        ({}, None, False),
        ({"background": ["a.jpg"]}, None, True),
        ({"method": "contrastive"}, None, True),
        ({"method_name": "contrastive", "method": "Method(...)"}, None, True),
        ({"method": "Method(Margin(Cosine(), background='float32[3, 3]'))"}, None, True),
        ({"method": "Method(similarity=Cosine())"}, None, False),
        ({"method": "contrastive"}, False, False),
        ({"background": []}, None, False),
        ({}, True, True),
    ],
)
def test_negative_values_are_left_out_where_there_is_a_background(
    settings, option, left_out, store, tmp_path
):
    store.settings = settings
    signed = np.linspace(-3, 1, 16, dtype=np.float32).reshape(4, 4)
    report.write(store.but(0, query_map=signed), tmp_path, limit=1, signed=option)
    with Image.open(tmp_path / "map-0000000-query.png") as file:
        alpha = np.asarray(file.convert("RGBA"))[..., 3]
    assert (np.mean(alpha == 0) > 0.5) == left_out
    text = (tmp_path / "index.html").read_text()
    assert ("Negative values" in text) == left_out


def test_only_some_rows_are_in_memory_at_a_time(files, tmp_path):
    store = stand_in.store_of(files, 150)
    report.write(store, tmp_path)
    assert store.largest_slab <= 64


def test_a_failure_leaves_no_report(store, tmp_path):
    calls = []

    def breaks(path):
        calls.append(path)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return pictures.read(path)

    with pytest.raises(KeyboardInterrupt):
        report.write(store, tmp_path / "out", read=breaks)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == []


def test_whatever_a_picture_does_stays_with_its_row(store, tmp_path):
    """An error of any kind, of a decoder or of a bucket, is the card's text."""

    def breaks(path):
        raise RuntimeError("Failed to decode image: BMFF parsing failed")

    report.write(store, tmp_path, read=breaks)
    assert "BMFF parsing failed" in (tmp_path / "index.html").read_text()


def test_an_earlier_report_is_replaced_only_on_request(store, files, tmp_path):
    report.write(store, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="is not empty"):
        report.write(store, tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / "notes.txt").write_text("mine")
    report.write(stand_in.store_of(files, 2), tmp_path, overwrite=True)
    assert len(list(tmp_path.glob("map-*.png"))) == 4
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "highst"}, "order: expected one of store, highest, lowest, got 'highst'; did"),
        ({"limit": 0}, "limit: expected a positive integer, got 0"),
        ({"limit": True}, "limit: expected a positive integer, got True"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message, store, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        report.write(store, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_empty_store_is_refused(store, tmp_path):
    with pytest.raises(ValueError, match="runs/pets holds no pairs"):
        report.write(stand_in.Store([]), tmp_path / "out")
    for i in range(12):
        store = store.but(i, status=0)
    with pytest.raises(ValueError, match="none of the 12 pairs of runs/pets is done yet"):
        report.write(store, tmp_path / "out")


def test_the_library_is_imported_without_jinja2():
    code = "import sys, fam_jax, fam_jax.apps.main; print('jinja2' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_path_in_the_place_of_a_store_says_what_opens_it(unchecked, tmp_path):
    with pytest.raises(TypeError, match=r"^store: expected bulk\.open_store\(path\), got the path"):
        report.write(tmp_path, tmp_path / "page")
