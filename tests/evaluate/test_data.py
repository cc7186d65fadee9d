"""What `fam-jax evaluate` reads: what it takes, and the one line for what it cannot use."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fam_jax.evaluate import data, tasks
from fam_jax.evaluate.annotated import Place, annotated, beside, box_of
from tests.evaluate import toy


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_half_of_every_class_asks_the_other_half(tmp_path, rng):
    split = data.classes(str(toy.folder(tmp_path / "data")), rng)
    assert len(split.queries) == len(split.gallery) == 12
    assert not {p.name for p in split.queries} & {p.name for p in split.gallery}
    assert {p.label for p in split.queries} == set(toy.COLOURS)
    assert split.left_out == []


def test_the_same_seed_draws_the_same(tmp_path):
    root = str(toy.folder(tmp_path / "data"))
    first, second = (data.classes(root, np.random.default_rng(3)) for _ in range(2))
    assert [p.name for p in first.queries] == [p.name for p in second.queries]


def test_a_zip_file_is_a_folder(tmp_path, rng):
    root = toy.folder(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path))
    split = data.classes(str(tmp_path / "data.zip"), rng)
    assert {p.label for p in split.queries} == {f"data/{name}" for name in toy.COLOURS}


def test_what_cannot_be_used_is_left_out_and_named(tmp_path, rng):
    root = toy.folder(tmp_path / "data")
    (root / "lonely").mkdir()
    toy.picture((1, 2, 3), rng).save(root / "lonely" / "0.png")
    (root / "void").mkdir()
    (root / "red" / "broken.png").write_bytes(b"no picture")
    left_out = "\n".join(data.classes(str(root), rng).left_out)
    assert "class lonely: 1 picture; at least 2 are needed" in left_out
    assert "class void: its folder is empty" in left_out
    assert "broken.png is not a picture" in left_out


def test_data_without_classes_is_refused(tmp_path, rng):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures in folders of"):
        data.classes(str(tmp_path / "empty"), rng)
    toy.folder(tmp_path / "one", each=1)
    with pytest.raises(ValueError, match="fewer than two classes"):
        data.classes(str(tmp_path / "one"), rng)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        data.classes(str(tmp_path / "nowhere"), rng)
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a zip file"):
        data.classes(str(tmp_path / "bad.zip"), rng)


def omniglot(root):
    rng = np.random.default_rng(0)
    for number in (1, 2):
        run = root / f"run{number:02d}"
        for part in ("training", "test"):
            (run / part).mkdir(parents=True)
        lines = []
        for i, colour in enumerate(toy.COLOURS.values(), start=1):
            toy.picture(colour, rng).save(run / "training" / f"class{i:02d}.png")
            toy.picture(colour, rng).save(run / "test" / f"item{i:02d}.png")
            lines.append(f"{run.name}/test/item{i:02d}.png {run.name}/training/class{i:02d}.png")
        (run / "class_labels.txt").write_text("\n".join(lines) + "\n")
    return root


def test_omniglots_runs(tmp_path):
    root = str(omniglot(tmp_path / "runs"))
    assert data.is_omniglot(root)
    assert not data.is_omniglot(str(tmp_path))
    first, second = data.omniglot_runs(root)
    assert [p.label for p in first.queries] == [p.label for p in first.support]
    assert second.support[0].label == "run02/training/class01.png"
    (tmp_path / "runs" / "run01" / "class_labels.txt").write_text("one column\nonly\n")
    with pytest.raises(ValueError, match="expected two columns"):
        data.omniglot_runs(root)


def test_the_official_runs_have_20_classes(assets):
    runs = data.omniglot_runs(str(assets / "images" / "omniglot" / "all_runs.zip"))
    assert [(len(run.support), len(run.queries)) for run in runs] == [(20, 20)] * 20


def test_episodes_share_no_picture_between_support_and_queries(tmp_path, rng):
    split = data.classes(str(toy.folder(tmp_path / "data")), rng)
    for episode in data.episodes(split, rng, way=3, shot=2, count=4):
        assert len(episode.support) == 6
        assert len({p.label for p in episode.support}) == 3
        assert not {p.name for p in episode.support} & {p.name for p in episode.queries}
    with pytest.raises(ValueError, match="--way: 5 classes asked for, the data has 4"):
        data.episodes(split, rng, way=5, shot=1, count=1)


def test_pairs_file(tmp_path, rng):
    for name in ("a", "b", "c"):
        toy.picture((9, 9, 9), rng).save(tmp_path / f"{name}.png")
    file = tmp_path / "pairs.csv"
    file.write_text(
        "first,second,same\na.png,b.png,1\na.png,c.png,no\na.png,gone.png,1\nb.png,c.png,perhaps\n"
    )
    pairs, left_out = data.pairs_file(file)
    assert [(p.first.name, p.second.name, p.same) for p in pairs] == [
        ("a.png", "b.png", True),
        ("a.png", "c.png", False),
    ]
    assert "pairs.csv, line 4: no such file" in left_out[0]
    assert left_out[1] == "pairs.csv, line 5: same is 'perhaps', expected 1 or 0"


def test_a_pairs_file_that_lacks_something_is_refused(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("first,other\na,b\n")
    with pytest.raises(ValueError, match="lacks the column second and same; expected: first,sec"):
        data.pairs_file(file)
    file.write_text("first,second,same\na.png,b.png,1\n")
    with pytest.raises(ValueError, match=r"needs pairs of both kinds.*0 usable.*no such file"):
        data.pairs_file(file)
    with pytest.raises(FileNotFoundError, match="no such file"):
        data.pairs_file(tmp_path / "none.csv")


BOX = "<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"  # noqa: E501


def boxed(root, name, *boxes):
    root.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / f"{name}.png")
    objects = "".join(BOX.format(*box) for box in boxes)
    (root / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")


def test_boxes_count_from_one_and_include_their_last_pixel(tmp_path):
    boxed(tmp_path / "data", "one", (11, 6, 20, 15))
    boxed(tmp_path / "data", "two", (1, 1, 4, 4), (31, 21, 40, 30))
    (one, two), left_out = annotated(tmp_path / "data")
    assert box_of(one.mask) == Place(10, 5, 20, 15)
    assert one.mask.sum() == 100
    assert two.mask.sum() == 16 + 100
    assert (one.label, left_out) == ("cat", [])


def test_annotations_that_cannot_be_used_are_named(tmp_path):
    root = tmp_path / "data"
    boxed(root, "good", (11, 6, 20, 15))
    boxed(root, "outside", (11, 6, 60, 15))
    boxed(root, "none")
    boxed(root, "broken")
    (root / "broken.xml").write_text("<annotation>")
    Image.new("RGB", (40, 30)).save(root / "alone.png")
    Image.new("RGB", (40, 30)).save(root / "small.png")
    Image.new("L", (20, 30), 1).save(root / "small_mask.png")
    images, left_out = annotated(root)
    assert [p.name for p in images] == ["good.png"]
    text = "\n".join(left_out)
    assert "outside.xml: the box (10, 5, 60, 15) lies outside the picture of 40 x 30" in text
    assert "none.xml has no object" in text
    assert "broken.xml is not a Pascal-VOC annotation" in text
    assert "alone.png: neither alone.xml nor a mask" in text
    assert "small_mask.png is 20 x 30 pixels, its picture small.png 40 x 30" in text
    (root / "good.xml").unlink()
    with pytest.raises(ValueError, match=r"no picture of .* has boxes"):
        annotated(root)


def test_masks_of_indices_and_of_two_colours(tmp_path):
    for name, values in (("indices", (0, 3, 255)), ("binary", (0, 255, 255))):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{name}.png")
        mask = np.full((20, 30), values[0], np.uint8)
        mask[5:10, 10:20] = values[1]
        mask[15:] = values[2]  # the border class of Pascal VOC, where there are indices
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
    (binary, indices), _ = annotated(tmp_path)
    assert (indices.mask.sum(), binary.mask.sum()) == (50, 50 + 150)


def test_the_strip_beside_an_object():
    mask = np.zeros((20, 40), bool)
    mask[5:15, 2:18] = True
    assert beside(mask) == Place(18, 0, 40, 20)
    assert beside(np.ones((20, 40), bool)) is None


def test_the_raccoons_all_have_a_box_inside_their_picture(assets):
    images, left_out = annotated(assets / "images" / "raccoon")
    assert len(images) == 40
    assert left_out == []


def test_a_table_and_an_archive_that_are_damaged_are_named(tmp_path):
    """Of another encoding; a .zip whose entry is cut, and one that would fill the disk."""
    (tmp_path / "pairs.csv").write_bytes(b"first,second,same\n\xe9.png,b.png,1\n")
    with pytest.raises(ValueError, match=r"pairs\.csv is no CSV file: 'utf-8' codec"):
        data.pairs_file(tmp_path / "pairs.csv")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/x.bin", bytes(10**8))
    with (
        pytest.raises(ValueError, match=r"a\.zip would fill 100,000,000 bytes from"),
        data.opened(tmp_path / "a.zip"),
    ):
        pass
    with pytest.raises(ValueError, match="is an address"), data.opened(Path("https:/x/a.zip")):
        pass


def test_deep_grey_pictures_and_pages_are_read_as_told(tmp_path, rng):
    """The window and the page of the options reach the pictures."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            levels = np.full((20, 20), 4095, np.uint16)
            levels[:5] = 0
            frames = [Image.fromarray(levels // (2 - page)) for page in range(2)]
            file = tmp_path / name / f"{i}.tif"
            frames[0].save(file, save_all=True, append_images=frames[1:])
    options = tasks.Options(str(tmp_path), window=(0, 4095), page=2)
    found = data.classes(options.data, rng, options.reader)
    assert all(np.asarray(picture.image).max() == 255 for picture in found.gallery)
    assert (options.facts()["window"], options.facts()["page"]) == ([0, 4095], 2)
    assert "window" not in tasks.Options("photographs").facts()
    with pytest.raises(ValueError, match="2 pages, or frames; take one with --page"):
        data.classes(options.data, rng)
