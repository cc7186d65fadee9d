"""What `fam-jax explain` draws, of which part of a picture, and `fam-jax redraw`."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

import fam_jax
import pretrained_ports
from fam_jax.apps import drawing
from fam_jax.io import files
from tests.commands import run

SMALL = "--model", "tiny", "--image-size", 32
SIZES = {"wide": (120, 40), "square": (48, 48), "other": (50, 40), "huge": (3000, 240)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures of several shapes, and a pair of them explained."""
    rng, made = np.random.default_rng(0), tmp_path_factory.mktemp("made")
    for name, (width, height) in SIZES.items():
        pixels = rng.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(made / f"{name}.png")
    Image.new("RGB", (48, 48), "white").save(made / "white.png")
    pair = made / "square.png", made / "other.png"
    assert run("explain", *pair, *SMALL, "-o", made / "pair").exit_code == 0
    return made


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """Copies of them, in the folder where commands run."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def explained(*args):
    result = run("explain", *args, *SMALL, "-o", "out")
    assert result.exit_code == 0, result.output
    return result.output


def manifest(folder="out"):
    with open(f"{folder}/manifest.json") as file:
        return json.load(file)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def is_grey(part):
    return np.ptp(part, axis=-1).max() == 0


def figures(folder):
    return {path.name: pixels(path) for path in sorted(folder.glob("*.png"))}


def test_the_map_is_drawn_where_the_network_saw_and_the_rest_is_grey(here):
    said = explained("wide.png", "square.png")
    assert "the network saw 33% of wide.png; the rest is grey" in said
    about = manifest()
    assert about["fit"] == "crop"
    assert about["query"]["size"] == [120, 40]
    assert (about["query_boxes"], about["reference_boxes"]) == ([[40, 0, 80, 40]], [[0, 0, 48, 48]])
    drawn = pixels("out/query.png")
    assert drawn.shape == (256, 768, 3), "the whole picture, large enough to see"
    assert is_grey(drawn[:, :256])
    assert is_grey(drawn[:, 512:])
    assert not is_grey(drawn[:, 260:508])
    assert not is_grey(pixels("out/reference.png")[:, :2])


def test_nothing_is_said_where_nothing_is_left_out(here):
    assert "the network saw" not in explained("square.png", "square.png")


def test_a_padded_picture_is_drawn_whole(here):
    assert "the network saw" not in explained("wide.png", "square.png", "--fit", "pad")
    about = manifest()
    assert about["fit"] == "pad"
    assert about["query_boxes"] == [[0, -40, 120, 80]]
    assert not is_grey(pixels("out/query.png")[:, :100])


def test_tiles_are_the_two_windows_with_the_highest_score_of_all(here):
    backbone = pretrained_ports.load("tiny")
    preprocess = pretrained_ports.Preprocess((32, 32), 32)
    names = "wide.png", "other.png"
    views = [
        [preprocess.open(name, box) for box in preprocess.windows(SIZES[name.split(".")[0]])]
        for name in names
    ]
    assert [len(some) for some in views] == [5, 2]
    encode = fam_jax.capture(backbone.model, at=backbone.layer)
    z, r = (encode(np.stack([view.input for view in some])).embeddings for some in views)
    z, r = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z, r))
    a, b = np.unravel_index(np.argmax(z @ r.T), (5, 2))

    said = explained(*names, "--fit", "tile")
    assert "the windows most alike are 33% of wide.png, 80% of other.png" in said
    about = manifest()
    assert about["scores"] == pytest.approx([float((z @ r.T).max())], abs=1e-5)
    assert about["query_boxes"] == [list(views[0][a].box)]
    assert about["reference_boxes"] == [list(views[1][b].box)]
    out = fam_jax.explain_pairs(encode, views[0][a].input[None], views[1][b].input[None])
    with np.load("out/maps.npz") as maps:
        np.testing.assert_allclose(maps["query_maps"], out.query_maps, rtol=1e-3, atol=1e-4)


def test_figures_of_very_wide_pictures_stay_of_reasonable_size(here):
    explained("huge.png", "square.png")
    assert pixels("out/query.png").shape[1] == 2400
    height, width, _ = pixels("out/pair.png").shape
    assert max(height, width) < 2000


def test_a_picture_of_one_colour_has_nothing_to_show(here):
    said = explained("white.png", "square.png")
    assert "warning: nothing to show: white.png is of one colour\n" in said
    assert (pixels("out/query.png") == 255).all(), "not painted"
    assert not (pixels("out/reference.png") == pixels("square.png")[0, 0]).all()
    assert run("redraw", "out", "-o", "b", "--scale", "shared").exit_code == 0
    own, shared = (pixels(f"{folder}/reference.png") for folder in ("out", "b"))
    assert np.abs(own - shared).mean() < 3, "the map that is not drawn has no part in the scale"


def test_what_is_left_of_a_negative_map_by_rounding_is_not_drawn():
    heat = np.full((4, 4), -1, np.float32)
    heat[0, 0] = 1e-7
    assert not drawing._positive(heat).any()
    heat[0, 0] = 0.1
    assert drawing._positive(heat).argmax() == 0


NAMES = "cost_$5_and_$x^{2$", "中文", "שלום עולם", "a\nb", "long" * 55


@pytest.mark.parametrize("name", NAMES, ids=["dollars", "chinese", "hebrew", "lines", "long"])
def test_pictures_may_be_called_anything(here, name):
    (here / "square.png").rename(here / f"{name}.png")
    explained(f"{name}.png", f"{name}.png")
    assert manifest()["query"]["path"] == str(here / f"{name}.png")


def test_figures_drawn_again_are_the_same_pixel_by_pixel(here):
    explained("wide.png", "square.png", "--background", "white.png", "--map-size", 9)
    assert manifest()["figures"]["clipped"]
    result = run("redraw", "out", "-o", "again")
    assert result.exit_code == 0, result.output
    old, new = figures(here / "out"), figures(here / "again")
    assert list(old) == list(new)
    assert len(old) == 3
    for name in old:
        np.testing.assert_array_equal(old[name], new[name], err_msg=name)
    assert (here / "again" / "maps.npz").read_bytes() == (here / "out" / "maps.npz").read_bytes()
    assert all(str(file) in result.output for file in ("again/pair.png", "again/manifest.json"))
    before, after = manifest(), manifest("again")
    assert {"fam-jax", "jax", "numpy", "matplotlib"} <= set(before["versions"])
    assert after["figures"].pop("versions") == before["versions"]
    assert after == before


def test_the_look_of_figures_can_be_chosen(here):
    explained("square.png", "wide.png")
    look = "--colormap", "viridis", "--alpha", 0.9, "--scale", "shared"
    assert run("redraw", "out", "-o", "a", *look).exit_code == 0
    style = manifest("a")["figures"]
    assert (style["colormap"], style["alpha"], style["scale"]) == ("viridis", 0.9, "shared")
    with np.load("out/maps.npz") as maps:
        every = np.concatenate([maps[f"{role}_maps"].ravel() for role in ("query", "reference")])
        heat = maps["reference_maps"][0]
    box = [round(x * 256 / 40) for x in manifest()["reference_boxes"][0]]
    picture = Image.open("wide.png").resize((768, 256), Image.Resampling.BICUBIC)
    expected = fam_jax.plot.overlay(
        picture,
        heat,
        box=tuple(box),
        limits=(float(every.min()), float(every.max())),
        alpha=0.9,
        colormap="viridis",
    )
    np.testing.assert_array_equal(pixels("a/reference.png"), expected)
    assert run("redraw", "a", "-o", "b").exit_code == 0
    assert (pixels("b/pair.png") == pixels("a/pair.png")).all(), "what is not given stays"


def test_a_folder_can_be_drawn_again_where_it_stands(here):
    before, names = figures(here / "pair"), {path.name for path in (here / "pair").iterdir()}
    (here / "pair" / "mine.txt").write_text("keep")
    line = "redraw", "pair", "-o", "pair", "--alpha", 0
    result = run(*line)
    assert result.exit_code == 2
    assert "pair is not empty; pass --overwrite" in result.output
    assert run(*line, "--overwrite").exit_code == 0
    assert {path.name for path in (here / "pair").iterdir()} == {*names, "mine.txt"}
    assert (figures(here / "pair")["query.png"] != before["query.png"]).any()


def test_folder_and_pictures_may_have_moved(made, here):
    (here / "far").mkdir()
    for name in ("pair", "square.png", "other.png"):
        shutil.move(name, "far")
    at = here / "far" / "pair"
    (at / "manifest.json").write_text(
        (at / "manifest.json").read_text().replace(str(made), "/gone")
    )
    shutil.move("far/other.png", "far/pair/other.png")  # one in it, one beside it
    assert run("redraw", at, "-o", "again").exit_code == 0
    again = manifest("again")
    assert again["query"]["relative"] == "../far/square.png"
    assert again["references"][0]["path"] == str(at / "other.png")
    shutil.move("far", "near")
    result = run("redraw", "again", "-o", "c")
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "no such file: " in result.output
    assert "square.png, nor square.png in" in result.output


def test_a_file_is_found_the_same_way_from_the_folder(tmp_path):
    """Both moved together."""
    (tmp_path / "old" / "pictures").mkdir(parents=True)
    (tmp_path / "old" / "pictures" / "a.png").write_bytes(b"a")
    facts = files.traceable_facts(tmp_path / "old" / "pictures" / "a.png", tmp_path / "old" / "out")
    assert facts["relative"] == "../pictures/a.png"
    (tmp_path / "old").rename(tmp_path / "new")
    (tmp_path / "new" / "out").mkdir()
    found = files.found_again(facts, tmp_path / "new" / "out")
    assert found == tmp_path / "new" / "pictures" / "a.png"


def test_a_changed_picture_is_one_line(here):
    explained("square.png", "other.png")
    shutil.copy("white.png", "other.png")
    result = run("redraw", "out", "-o", "again")
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert "other.png has changed since" in result.output
    assert result.output.count("\n") == 1
    assert not (here / "again").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none"], "no such folder: none"),
        (["empty"], "empty is not from fam-jax explain: no manifest.json in it"),
        (["broken"], "broken: manifest.json and maps.npz are not, or not as fam-jax explain wrote"),
        (["lying"], "lying: manifest.json and maps.npz are not, or not as fam-jax explain wrote"),
        (["pair", "--colormap", "virids"], "did you mean 'viridis'"),
        (["pair", "--scale", "share"], "did you mean 'shared'"),
        (["pair", "--alpha", "1.5"], "--alpha: expected a number from 0 to 1, got 1.5"),
    ],
)
def test_what_cannot_be_drawn_again_is_one_line(here, args, message):
    (here / "empty").mkdir()
    shutil.copytree("pair", "broken")
    (here / "broken" / "maps.npz").write_bytes(b"PK\x03\x04 cut")
    shutil.copytree("pair", "lying")
    with (
        zipfile.ZipFile("lying/maps.npz", "w") as archive,
        archive.open("query_maps.npy", "w") as lie,
    ):
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(lie, header)
    result = run("redraw", *args)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (here / "fam-jax-redraw").exists()


def test_an_unknown_fit_is_one_line(here):
    result = run("explain", "square.png", "other.png", "--fit", "crops")
    assert result.exit_code == 2
    assert "--fit: expected one of crop, pad, tile, got 'crops'" in result.output
