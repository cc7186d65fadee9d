"""No picture stops a job: rows without a result say why, and their neighbours do not suffer."""

import numpy as np
import pytest
from PIL import Image

from fam_jax import bulk
from fam_jax.io import pictures
from tests.bulk import toy


def truncated(path):
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:700])


def huge(path):
    Image.new("1", (30000, 40)).save(path)


BAD = {
    "truncated.jpg": (truncated, "is damaged"),
    "text.png": (lambda path: path.write_text("no picture"), "is not a picture"),
    "zero.png": (lambda path: path.write_bytes(b""), "is empty"),
    "missing.png": (lambda path: None, "no such file"),
    "huge.png": (huge, "at most 16384 on each side"),
    "folder.png": (lambda path: path.mkdir(), "is a folder"),
    "tiny.png": (lambda path: Image.new("RGB", (4, 4)).save(path), "at least 8"),
}


def rotated(path):
    picture = Image.linear_gradient("L").resize((40, 24)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save(path, exif=exif)


def cmyk(path):
    Image.linear_gradient("L").convert("CMYK").save(path)


def deep(path):
    Image.fromarray((np.arange(900).reshape(30, 30) * 70).astype(np.uint16)).save(path)


GOOD = {"rotated.jpg": rotated, "cmyk.jpg": cmyk, "sixteen.png": deep}


@pytest.mark.parametrize("once", [False, True])
def test_every_kind_of_bad_picture(tmp_path, once):
    (good,) = toy.pictures(tmp_path / "p", 1)
    for name, (make, _) in BAD.items():
        make(tmp_path / "p" / name)
    for name, make in GOOD.items():
        make(tmp_path / "p" / name)
    names = [*BAD, *GOOD]
    rows = [(name, good) for name in names] + [(good, name) for name in names] + [(good, good)]
    table = tmp_path / "p" / "pairs.jsonl"
    table.write_text("\n".join(f'{{"query": "{q}", "reference": "{r}"}}' for q, r in rows))
    store = tmp_path / "store"
    done = bulk.run(toy.encoder(), table, store, preprocess=toy.Preprocess(), batch=4, once=once)
    assert (done.pairs, done.invalid) == (len(rows), 2 * len(BAD))
    records = bulk.open_store(store).rows(range(len(rows)))
    for side, part in (("query", records[: len(names)]), ("reference", records[len(names) : -1])):
        for name, row in zip(names, part, strict=True):
            if name in BAD:
                assert row.status == 2
                assert row.reason.startswith(f"{side}: ")
                assert BAD[name][1] in row.reason
                assert np.isnan(row.score)
                assert row.query_map is None
            else:
                assert (row.status, row.reason) == (1, "")
    upright = records[names.index("rotated.jpg")]
    assert upright.query_box == (0.0, 8.0, 24.0, 32.0)  # of 24 x 40 pixels, not of 40 x 24
    assert pictures.read(tmp_path / "p" / "rotated.jpg").size == (24, 40)
    raw = bulk.open_store(store)
    assert not raw.array("query_maps")[raw.status() == 2].any()


def test_a_black_picture_is_said_to_have_a_zero_embedding(tmp_path):
    """Valid as a file; there is nothing to explain."""
    paths = toy.pictures(tmp_path, 1)
    Image.new("RGB", (24, 24), (255, 255, 255)).save(tmp_path / "white.png")

    def preprocess(picture):
        white = picture.getpixel((0, 0))[0] == 255
        return toy.Preprocess()(picture) * (0 if white else 1)

    pairs = [(paths[0], str(tmp_path / "white.png"))]
    bulk.run(toy.encoder(), pairs, tmp_path / "store", preprocess=preprocess)
    (row,) = bulk.open_store(tmp_path / "store").rows([0])
    assert (row.status, row.reason, row.score) == (2, "the embedding of the reference is zero", 0.0)


def test_a_long_reason_is_cut_between_characters(tmp_path):
    name = "ü" * 100 + ".png"
    bulk.run(toy.encoder(), [(name, name)], tmp_path / "store", preprocess=toy.Preprocess())
    (row,) = bulk.open_store(tmp_path / "store").rows([0])
    assert row.reason.startswith("query: no such file: ü")
    assert set(row.reason.removeprefix("query: no such file: ")) == {"ü"}
