"""Stores that are unfinished or damaged: said by row, never read as values, and computed again."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest

from fam_jax import bulk, report
from fam_jax.io import pictures
from tests.bulk import toy
from tests.commands import TINY, run

ARRAYS = ("query_maps", "reference_maps", "ranges", "boxes", "scores", "reason", "status")
N = 9


def flip(file):
    """Another bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 8
    file.write_bytes(bytes(data))


def chunk_file(store, array, chunk):
    (file,) = [f for f in (store / array / "c" / str(chunk)).rglob("*") if f.is_file()] or [
        store / array / "c" / str(chunk)
    ]
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of 11 pairs, 2 in a chunk, and how to make it."""
    folder = tmp_path_factory.mktemp("made")
    table = toy.table(folder / "in", 11, images=5)

    def make(store=folder / "store"):
        bulk.run(toy.encoder(), table, store, preprocess=toy.Preprocess(), batch=2)
        return store

    return make


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made(), tmp_path / "store")


@pytest.mark.parametrize("array", ARRAYS)
def test_a_flipped_bit_is_named_by_row_and_computed_again(made, store, array):
    """In the fourth chunk, and in the last, which is smaller."""
    before = toy.files(store)
    for chunk in (3, 5):
        flip(chunk_file(store, array, chunk))
    opened = bulk.open_store(store)
    with pytest.raises(OSError, match=rf"damaged: {array} of 3 rows \(6, 7, 10\)"):
        opened.array(array)
    rows = opened.rows(range(11))
    assert [row.index for row in rows if row.status == 2] == [6, 7, 10]
    assert rows[6].reason.startswith(f"the store is damaged: {array} of row 6")
    assert rows[6].query_map is None
    assert rows[5].status == 1
    made(store)
    assert toy.files(store) == before


@pytest.mark.parametrize("array", ARRAYS)
def test_a_file_that_is_gone_is_not_done(made, store, array):
    before = toy.files(store)
    chunk_file(store, array, 1).unlink()
    opened = bulk.open_store(store)
    assert np.flatnonzero(opened.status() == 0).tolist() == [2, 3]
    assert [row.status for row in opened.rows([1, 2, 3])] == [1, 0, 0]
    assert opened.rows([2])[0].query_map is None
    made(store)
    assert toy.files(store) == before


def test_what_was_left_of_a_table_by_a_kill_goes(made, tmp_path):
    """Only of the tables of this store: another's file is no store's."""
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / ".pairs.parquet.0123abcd.part").write_bytes(b"PAR1")
    assert toy.files(made(begun)) == toy.files(made())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".mine.0123abcd.part").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"it holds .*mine"):
        made(tmp_path / "other")
    assert (tmp_path / "other" / ".mine.0123abcd.part").exists()


def test_what_cannot_be_read_is_not_damaged(made, store):
    """A disk that fails for a while costs no map: nothing is removed, the job says why it ends."""
    file = chunk_file(store, "scores", 1)
    kept = file.read_bytes()
    file.unlink()
    file.symlink_to(file.name)  # a link to itself: it is there, and opens as an error
    before = toy.files(store).keys()
    with pytest.raises(OSError, match=f"cannot read .*{store.name}"):
        made(store)
    with pytest.raises(OSError, match="cannot read"):
        bulk.open_store(store).rows(range(11))
    assert toy.files(store).keys() == before
    file.unlink()
    file.write_bytes(kept)
    assert [row.status for row in bulk.open_store(store).rows([2, 3])] == [1, 1]


def test_every_array_has_a_checksum(store):
    for array in ARRAYS:
        codecs = json.loads((store / array / "zarr.json").read_text())["codecs"]
        assert codecs[-1]["name"] == "crc32c"


def test_a_report_of_part_of_a_store_is_asked_for(store, tmp_path):
    chunk_file(store, "scores", 1).unlink()
    with pytest.raises(ValueError, match="is unfinished: 2 of its 11 pairs are missing"):
        report.write(bulk.open_store(store), tmp_path / "page", partial=False)
    said = run("report", store, "-o", tmp_path / "page")
    assert (said.exit_code, "2 of its 11 pairs are missing" in said.output) == (2, True)
    said = run("report", store, "-o", tmp_path / "page", "--partial")
    assert (said.exit_code, "is unfinished: 2 of 11 are missing" in said.output) == (0, True)


@pytest.mark.parametrize("key", ["shape", "chunk_shape", "map_shapes", "asked", "map_dtype"])
def test_settings_that_lack_a_key_are_one_line(store, key):
    said = json.loads((store / "zarr.json").read_text())
    settings = said["attributes"]["fam_jax"]
    del (settings if key in settings else settings["asked"])[key]
    (store / "zarr.json").write_text(json.dumps(said))
    with pytest.raises((OSError, ValueError), match=f"{key}|is an index"):
        bulk.open_store(store)


@pytest.fixture
def gallery(tmp_path):
    """An index of nine pictures, two in a chunk, and how to make it."""
    paths = toy.pictures(tmp_path / "gallery", N)

    def make():
        bulk.index(toy.encoder(), paths, tmp_path / "index", preprocess=toy.Preprocess(), batch=2)
        return tmp_path / "index"

    make()
    return make


def test_an_unfinished_index_is_not_searched(gallery, tmp_path):
    index = gallery()
    for array in ("embeddings", "status"):
        shutil.copytree(index, tmp_path / array)
        chunk_file(tmp_path / array, array, 1).unlink()
        opened = bulk.open_index(tmp_path / array)
        assert np.sum(opened.status() == 0) == 2
        for ask in (
            partial(opened.search, np.ones((1, 5)), 1),
            opened.background,
            opened.embeddings,
        ):
            with pytest.raises(ValueError, match=r"2 of its 9 pictures are missing; .*--partial"):
                ask()
        part = bulk.open_index(tmp_path / array, partial=True)
        _, rows = part.search(np.ones((1, 5)), 7)
        assert set(rows[0].tolist()) == set(range(N)) - {2, 3}
    flip(chunk_file(index, "embeddings", 4))
    with pytest.raises(OSError, match=r"damaged: embeddings of 1 rows \(8\)"):
        bulk.open_index(index).search(np.ones((1, 5)), 1)
    gallery()
    assert bulk.open_index(index).search(np.ones((1, 5)), N)[1].shape == (1, N)


def test_the_command_asks_an_index_made_from_python_and_part_of_one(tmp_path):
    import fam_jax
    import pretrained_ports
    from fam_jax.apps.choice import open_network

    paths = toy.pictures(tmp_path / "gallery", 5, side=64)
    net, _ = open_network("tiny", None, image_size=64)
    assert isinstance(net.backbone, pretrained_ports.Backbone)
    encode = fam_jax.capture(net.backbone.model, at=net.backbone.layer)
    index = tmp_path / "index"
    bulk.index(encode, paths, index, preprocess=net.preprocess, batch=2)
    asked = ("retrieve", paths[0], "--index", index, "--top", 1, *TINY)
    found = run(*asked, "-o", tmp_path / "a")
    assert (found.exit_code, "1.0000" in found.output) == (0, True), found.output
    chunk_file(index, "status", 2).unlink()
    found = run(*asked, "-o", tmp_path / "b")
    assert (found.exit_code, "1 of its 5 pictures are missing" in found.output) == (2, True)
    found = run(*asked, "-o", tmp_path / "b", "--partial")
    assert (found.exit_code, "is unfinished: 1 of 5 are missing" in found.output) == (0, True)


def test_a_store_is_not_written_through_a_link(made, store, tmp_path):
    """Another folder than the store's keeps what is in it."""
    theirs = tmp_path / "theirs"
    (store / "query_maps" / "c").rename(theirs)
    (store / "query_maps" / "c").symlink_to(theirs)
    flip(chunk_file(store, "scores", 1))
    before = toy.files(theirs)
    with pytest.raises(OSError, match=r"query_maps/c is a link; a store is not written through"):
        made(store)
    assert toy.files(theirs) == before


def test_rows_that_are_only_said_are_not_believed(store, gallery, tmp_path):
    """Of a store and of an index; their tables say how many there are."""
    for place, key, change in ((store, "shape", [2 * 10**10]), (gallery(), "pictures", 10**10)):
        said = json.loads((place / "zarr.json").read_text())
        settings = said["attributes"]["fam_jax"]
        (settings if key in settings else settings["asked"])[key] = change
        (place / "zarr.json").write_text(json.dumps(said))
    with pytest.raises(OSError, match=r"is damaged: its zarr\.json says 20000000000 rows, .* 11"):
        bulk.open_store(store)
    with pytest.raises(OSError, match=r"says 10000000000 pictures, its table 9"):
        bulk.open_index(tmp_path / "index")


def test_a_name_that_is_not_utf8_does_not_stop_a_gallery(tmp_path):
    paths = toy.pictures(tmp_path / "in", 3)
    odd = os.fsencode(tmp_path / "in") + b"/\xff.png"
    shutil.copy(paths[0], odd)
    listing = pictures.scan(tmp_path / "in")
    assert (len(listing.files), listing.skipped) == (3, {"with names that are not UTF-8": 1})
    said = run("index", tmp_path / "in", *TINY, "--image-size", 32, "-o", tmp_path / "index")
    assert (said.exit_code, "1 with names that are not UTF-8" in said.output) == (0, True)
    told = {"preprocess": toy.Preprocess()}
    with pytest.raises(ValueError, match=r"the path of row 1 is not UTF-8: .*\\udcff\.png"):
        bulk.index(toy.encoder(), [os.fsdecode(odd)], tmp_path / "b", **told)
    with pytest.raises(ValueError, match="query of row 1 is not UTF-8"):
        bulk.run(toy.encoder(), [(os.fsdecode(odd), paths[0])], tmp_path / "c", **told)
