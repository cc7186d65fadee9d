"""A store in FiftyOne: its pairs as groups, maps over the whole picture, boxes and scores.

FiftyOne's own code writes into MongoDB's stand-in, so that no server is needed.
"""

import numpy as np
import pytest
from PIL import Image

import fam_jax
from fam_jax.metrics import box_of
from fam_jax.store import INVALID, Row
from tests.report.stand_in import Store

pytest.importorskip("fiftyone", reason='needs pip install ".[fiftyone]"')
mongomock = pytest.importorskip("mongomock")


@pytest.fixture(scope="module")
def fo():
    """FiftyOne over a database in memory."""
    import mongoengine
    from fiftyone.core.odm import database

    memory = mongomock.MongoClient()

    class Client(mongomock.MongoClient):
        def __init__(self, *args, **options):
            super().__init__("localhost", _store=memory._store)

        def server_info(self):
            return {"version": "6.0.5", "versionArray": [6, 0, 5, 0]}

        @property
        def _closed(self):
            return False

    connect = mongoengine.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        patch.setattr(database.fo.config, "database_uri", "mongodb://localhost")
        patch.setattr(database.pymongo, "MongoClient", Client)
        patch.setattr(database.fom, "migrate_database_if_necessary", lambda **_: None)
        client = {"mongo_client_class": Client, "uuidRepresentation": "standard"}
        patch.setattr(mongoengine, "connect", lambda name, **_: connect(name, **client))
        yield database.fo


@pytest.fixture
def row(tmp_path):
    """A row of two pictures of 40 x 20 pixels, the second stored on its side by a camera."""
    upright = Image.new("RGB", (40, 20))
    upright.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.jpg", exif=exif)
    heat = np.array([[0, 1], [4, 3]], np.float32)
    paths = str(tmp_path / "a.png"), str(tmp_path / "b.jpg")
    return Row(0, "1.1", "rank 1", *paths, 0.75, query_map=heat, reference_map=heat)


def one_group(fo, row):
    from fam_jax.integrations import fiftyone as ours

    query, reference = ours.samples(Store([row]))
    assert query.pair.id == reference.pair.id
    assert (query.pair.name, reference.pair.name) == ("query", "reference")
    return query, reference


def test_a_row_is_two_samples_of_one_group(fo, row):
    """Without a box the map is of all of the picture, with its own values and range."""
    for sample, path in zip(one_group(fo, row), (row.query, row.reference), strict=True):
        assert sample.filepath == path
        np.testing.assert_array_equal(sample.map.map, row.query_map)
        assert sample.map.range == [0, 4]
        assert (sample.score, sample.row, sample.name) == (0.75, 0, "1.1")
        assert (sample.label, sample.reason) == ("rank 1", None)
        (detection,) = sample.box.detections
        assert detection.bounding_box == [0, 0.5, 1, 0.5]  # left, top, width, height


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10.0, 0.0, 30.0, 20.0), [[0, 0, 1, 0], [0, 4, 3, 0]]),  # a centre crop
        ((0.0, -10.0, 40.0, 30.0), [[0, 1], [4, 3]]),  # padded to a square
        ((0.0, 0.0, 40.0, 20.0), [[0, 1], [4, 3]]),  # all of it
    ],
)
def test_the_map_of_a_part_lies_where_the_network_looked(fo, row, box, expected):
    """Every pixel has the value of the map's pixel over it, and the box is that of these pixels."""
    for sample in one_group(fo, row._replace(query_box=box, reference_box=box)):
        whole, expected = sample.map.map, np.asarray(expected, np.float32)
        repeats = [n // m for n, m in zip(whole.shape, expected.shape, strict=True)]
        np.testing.assert_array_equal(whole, np.kron(expected, np.ones(repeats)))
        assert min(repeats) >= 2
        left, top, right, bottom = np.asarray(box_of(whole[None])[0])
        h, w = whole.shape
        (detection,) = sample.box.detections
        sides = [left / w, top / h, (right - left) / w, (bottom - top) / h]
        np.testing.assert_allclose(detection.bounding_box, sides)


def test_signed_maps_keep_their_signs_and_zero_is_within_their_range(fo, row):
    query, _ = one_group(fo, row._replace(query_map=np.float32([[-2, 1], [0, 0.5]])))
    assert query.map.range == [-2, 1]


def test_a_row_without_maps_says_why(fo, row):
    lost = row._replace(query_map=None, reference_map=None, score=np.nan, status=INVALID)
    for sample in one_group(fo, lost._replace(reason="no such file: a.png")):
        assert not sample.has_field("map")
        assert (sample.score, sample.reason) == (None, "no such file: a.png")


def test_a_picture_that_is_gone_has_no_place_for_its_map(fo, row):
    query, reference = one_group(fo, row._replace(query="gone.png", query_box=(0.0, 0.0, 9.0, 9.0)))
    assert not query.has_field("map")
    assert "gone.png" in query.reason
    assert reference.has_field("map")


def test_a_picture_that_is_another_one_by_now_has_no_map_drawn_over_it(fo, row):
    query, _ = one_group(fo, row._replace(query_box=(0.0, 0.0, 90.0, 90.0)))
    assert not query.has_field("map")
    assert query.reason.startswith("not the picture that was explained: it has 40 x 20 pixels")


def test_maps_of_signals_are_refused(fo, row):
    with pytest.raises(ValueError, match=r"maps of pictures, \[h w\]; these are \[2\]"):
        one_group(fo, row._replace(query_map=np.ones(2, np.float32)))


def test_a_retrieval_becomes_a_dataset(fo, inputs, tmp_path):
    """From pictures to FiftyOne's database: every hit of every query, and a choice of rows."""
    from fam_jax import bulk
    from fam_jax.integrations.fiftyone import dataset
    from pretrained_ports import load

    backbone = load("tiny")
    encode = fam_jax.capture(backbone)
    pictures = sorted((inputs / "some").glob("*.png"))
    with_ = {"preprocess": backbone.preprocess, "batch": 2}
    bulk.index(encode, pictures, tmp_path / "index", **with_)
    index = bulk.open_index(tmp_path / "index")
    bulk.retrieve(encode, pictures, index, tmp_path / "hits", top=2, **with_)
    store = bulk.open_store(tmp_path / "hits")

    made = dataset(store, "hits")
    assert made.media_type == "group"
    assert len(made) == 2 * len(pictures)
    assert {type(made.get_field_schema()[name]).__name__ for name in ("score", "row")} == {
        "FloatField",
        "IntField",
    }
    np.testing.assert_allclose(made.values("score"), store.scores())
    for side in ("query", "reference"):
        made.group_slice = side
        paths = [str(getattr(row, side)) for row in store.rows(range(len(store)))]
        assert made.values("filepath") == paths
    assert len(dataset(store, "some", rows=[0, 3])) == 2
