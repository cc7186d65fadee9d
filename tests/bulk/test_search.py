"""The nearest of a gallery are those of a sort, and every hit is explained."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax import bulk
from fam_jax.bulk._pictures import PictureLoader
from fam_jax.io import pictures
from tests.bulk import toy
from tests.close import assert_close

N = 29


@pytest.fixture
def gallery(tmp_path):
    """29 pictures and one that cannot be read."""
    paths = toy.pictures(tmp_path / "gallery", N)
    (tmp_path / "gallery" / "000.png").write_text("no picture")
    index = bulk.index(
        toy.encoder(), paths, tmp_path / "index", preprocess=toy.Preprocess(), batch=2
    )
    assert (index.pictures, index.invalid) == (N, 1)
    return bulk.open_index(tmp_path / "index")


def test_embeddings_are_the_encoder_s(gallery):
    inputs = np.stack([toy.Preprocess()(pictures.read(path)) for path in gallery.pictures[1:]])
    expected = toy.encoder()(inputs).embeddings
    assert_close(gallery.embeddings()[1:], expected)
    assert not gallery.embeddings()[0].any()
    assert gallery.reasons() == {0: f"{gallery.pictures[0]} is not a picture that Pillow can read"}


@pytest.mark.numerics
@pytest.mark.parametrize("part", [8192, 1])
@pytest.mark.parametrize("similarity", [fam_jax.cosine, fam_jax.dot, fam_jax.euclidean])
def test_the_nearest_are_those_of_a_sort(gallery, monkeypatch, part, similarity):
    """On 8 devices, in one part or in several; ties in the order of the gallery."""
    monkeypatch.setattr("fam_jax.bulk._search._ROWS", part)
    monkeypatch.setattr("fam_jax.bulk._search._SPARE", 1)
    z = gallery.embeddings()
    queries = np.concatenate([z[3:6], z[5:6] * 2])
    scores, rows = gallery.search(queries, 7, similarity)
    for q, best, at in zip(queries, scores, rows, strict=True):
        all_scores = np.array(similarity.score(np.broadcast_to(q, z.shape), z))
        all_scores[0] = -np.inf
        order = np.argsort(-all_scores, kind="stable")[:7]
        # A distance is a sum of squares as large as those of the embeddings.
        terms = max(np.abs(all_scores[1:]).max(), np.square(q).sum())
        assert_close(best, all_scores[order], relative_to=terms)
        assert_close(all_scores[at], all_scores[order], relative_to=terms)


def test_equal_ones_come_in_the_order_of_the_gallery(tmp_path):
    """Copies of a picture tie exactly, also on different devices: all numbers here are whole."""
    paths = toy.pictures(tmp_path, 4)
    levels = lambda picture: np.float32(np.asarray(picture.resize((4, 4))) // 16)  # noqa: E731
    whole = fam_jax.encoder(lambda x: x, lambda A: A.sum((1, 2)))
    bulk.index(whole, paths * 4, tmp_path / "index", preprocess=levels)
    gallery = bulk.open_index(tmp_path / "index")
    assert len(np.unique(gallery.embeddings(), axis=0)) == 4
    _, rows = gallery.search(gallery.embeddings()[2:3], 5, fam_jax.euclidean)
    assert rows[0][:4].tolist() == [2, 6, 10, 14]


def test_wrong_questions(gallery):
    with pytest.raises(ValueError, match=r"expected embeddings \[q, 5\], got shape \(2, 3\)"):
        gallery.search(np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match="expected 1 to 28, the pictures of the gallery, got 29"):
        gallery.search(np.ones((2, 5)), 29)


def test_an_index_is_not_a_store_of_maps(gallery, tmp_path):
    with pytest.raises(ValueError, match="is an index, not a store of maps"):
        bulk.open_store(tmp_path / "index")
    with pytest.raises(FileNotFoundError, match=r"no index at .*none; fam-jax index makes one"):
        bulk.open_index(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no store at .*none; fam-jax map makes one"):
        bulk.open_store(tmp_path / "none")


def test_hits_are_explained_and_every_picture_is_encoded_once(gallery, tmp_path, monkeypatch):
    """Also those that are hits of several queries, and a query that is in the gallery."""
    decoded = []
    load = PictureLoader.__call__
    monkeypatch.setattr(
        PictureLoader, "__call__", lambda self, path: decoded.append(path) or load(self, path)
    )
    queries = [gallery.pictures[4], gallery.pictures[9], *toy.pictures(tmp_path / "q", 1)]
    retrieval = bulk.retrieve(
        toy.encoder(),
        queries,
        gallery,
        tmp_path / "maps",
        top=6,
        preprocess=toy.Preprocess(),
        batch=4,
        dtype="float32",
    )
    read = [path for path in decoded if path]
    assert len(read) == len(set(read))
    assert retrieval.rows[:2, 0].tolist() == [4, 9]
    store = bulk.open_store(tmp_path / "maps")
    rows = store.rows(range(18))
    assert [row.label for row in rows] == [f"rank {r}" for _ in range(3) for r in range(1, 7)]
    load = lambda path: toy.Preprocess()(pictures.read(path))  # noqa: E731
    both = [np.stack([load(getattr(row, side)) for row in rows]) for side in ("query", "reference")]
    out = fam_jax.explain_pairs(toy.encoder(), *both)
    assert_close([row.score for row in rows], retrieval.scores.ravel(), relative_to=1)  # cosines
    assert_close([row.query_map for row in rows], out.query_maps)
    assert_close([row.reference_map for row in rows], out.reference_maps)


@pytest.mark.numerics
def test_the_gallery_is_its_own_background(gallery, tmp_path, monkeypatch):
    """Read in parts; ranks and scores are those of the plain similarity, maps those of all."""
    monkeypatch.setattr("fam_jax.bulk._index._READ_ROWS", 8)
    told = {"top": 4, "preprocess": toy.Preprocess(), "batch": 4, "dtype": "float32"}
    query = gallery.pictures[4:5]
    hits = [
        bulk.retrieve(
            toy.encoder(), query, gallery, tmp_path / f"{i}", method=fam_jax.contrastive(b), **told
        )
        for i, b in enumerate((gallery.background(), gallery.embeddings()[1:]))
    ]
    plain, rows = gallery.search(gallery.embeddings()[4:5], 4)
    for found in hits:
        assert_close(found.scores, plain)
        assert found.rows.tolist() == rows.tolist()
    given, expected = (bulk.open_store(tmp_path / f"{i}") for i in (0, 1))
    assert_close(given.scores(), expected.scores(), relative_to=1)
    for name in ("query_maps", "reference_maps"):
        maps = expected.array(name)
        # A margin is what is left of scores of up to 1, spread over the map.
        assert_close(given.array(name), maps, relative_to=np.abs(maps).max() + 1 / maps[0].size)


def test_another_network_than_the_index_s_is_refused(gallery, tmp_path):
    """Told by its parameters, before anything is read."""
    scaled = fam_jax.encoder(partial(jnp.multiply, jnp.float32(2)), lambda A: A.mean((1, 2)))
    with pytest.raises(ValueError, match="was made with another network, or with other weights"):
        bulk.retrieve(
            scaled,
            gallery.pictures[1:2],
            gallery,
            tmp_path / "maps",
            top=2,
            preprocess=toy.Preprocess(),
        )


def test_a_query_that_cannot_be_read_is_left_out(gallery, tmp_path):
    queries = [gallery.pictures[4], gallery.pictures[0], gallery.pictures[9]]
    told = {"top": 2, "preprocess": toy.Preprocess(), "batch": 2, "dtype": "float32"}
    some = bulk.retrieve(toy.encoder(), queries, gallery, tmp_path / "some", **told)
    good = bulk.retrieve(toy.encoder(), queries[::2], gallery, tmp_path / "good", **told)
    assert some.queries == good.queries == queries[::2]
    assert some.left_out == {queries[1]: f"{queries[1]} is not a picture that Pillow can read"}
    assert some.rows[:, 0].tolist() == [4, 9]
    np.testing.assert_array_equal(some.scores, good.scores)
    maps = [bulk.open_store(tmp_path / name).array("query_maps") for name in ("some", "good")]
    np.testing.assert_array_equal(*maps)


def test_no_query_that_can_be_read_is_named(gallery, tmp_path):
    with pytest.raises(ValueError, match=r"no such file: nowhere\.png"):
        bulk.retrieve(
            toy.encoder(),
            ["nowhere.png"],
            gallery,
            tmp_path / "maps",
            top=2,
            preprocess=toy.Preprocess(),
        )
    assert not (tmp_path / "maps").exists()


def test_paths_may_be_path_objects(tmp_path):
    """Of a gallery, of queries and of both sides of a grid, as of a table's pairs."""
    paths = [Path(path) for path in toy.pictures(tmp_path / "gallery", 4)]
    keywords = {"preprocess": toy.Preprocess(), "batch": 2}
    bulk.index(toy.encoder(), paths, tmp_path / "index", **keywords)
    index = bulk.open_index(tmp_path / "index")
    assert index.pictures == list(map(str, paths))
    found = bulk.retrieve(toy.encoder(), paths[:1], index, tmp_path / "hits", top=2, **keywords)
    assert found.queries == [str(paths[0])]
    assert found.rows[0, 0] == 0
    pairs = bulk.grid(paths[:1], paths[1:], batch=2)
    assert bulk.run(toy.encoder(), pairs, tmp_path / "grid", **keywords).invalid == 0


def best(scores, k):
    """By score, then by row; what is not finite last."""
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    rows = np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores))
    return rows[:, :k]


def needs_half():
    """XLA compiles no float16 for processors of before 2012, which have no instruction for it."""
    try:
        jax.jit(lambda x: x.astype(jnp.float32))(np.ones(2, np.float16))
    except jax.errors.JaxRuntimeError as error:
        if "Failed to materialize symbols" not in str(error):
            raise
        pytest.skip(f"needs F16C: {error}")


@pytest.mark.parametrize("similarity", [fam_jax.cosine, fam_jax.dot, fam_jax.euclidean])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_search_in_memory(monkeypatch, similarity, dtype):
    """Ranks are those of float64, whose distances no rounding bridges; rows of NaN come last."""
    if dtype == np.float16:
        needs_half()
    monkeypatch.setattr("fam_jax.bulk._search._ROWS", 48)
    rng = np.random.default_rng(0)
    z, queries = rng.normal(size=(1000, 7)).astype(dtype), rng.normal(size=(5, 7))
    z[[3, 40]] = np.nan
    scores, rows = bulk.search(queries, z, 6, similarity)
    with jax.enable_x64(True):
        score = jax.jit(lambda q, z: similarity.score(jnp.broadcast_to(q, z.shape), z))
        exact = np.stack(
            [score(q, z.astype(np.float64)) for q in np.float32(queries).astype(float)]
        )
    expected = best(exact, 6)
    np.testing.assert_array_equal(rows, expected)
    assert_close(scores, np.take_along_axis(exact, expected, 1), relative_to=exact[:, 100:])
    _, last = bulk.search(queries, z[:50], 50, similarity)
    assert last[:, -2:].tolist() == [[3, 40]] * 5


@pytest.mark.parametrize("similarity", [fam_jax.dot, fam_jax.euclidean])
def test_more_equal_ones_than_a_part_keeps(monkeypatch, similarity):
    """All numbers are whole: hundreds tie, within a part and over parts, in the order of rows."""
    monkeypatch.setattr("fam_jax.bulk._search._ROWS", 48)
    rng = np.random.default_rng(0)
    z, queries = rng.integers(-1, 2, (1000, 4)), rng.integers(-1, 2, (3, 4))
    shares = queries[:, None] * z if similarity is fam_jax.dot else -((queries[:, None] - z) ** 2)
    _, rows = bulk.search(np.float32(queries), np.float32(z), 40, similarity)
    np.testing.assert_array_equal(rows, best(shares.sum(2), 40))


class Nearness:
    """A similarity of a user's own."""

    score = staticmethod(fam_jax.euclidean.score)
    shares = staticmethod(fam_jax.euclidean.shares)


def test_a_similarity_of_ones_own(gallery):
    z = gallery.embeddings()[4:6]
    for one, other in zip(
        gallery.search(z, 5, Nearness()), gallery.search(z, 5, fam_jax.euclidean), strict=True
    ):
        assert_close(one, other)


def test_products_that_overflow_are_scored_one_by_one(monkeypatch):
    """|z|^2 is beyond float32 where z - r is not."""
    monkeypatch.setattr("fam_jax.bulk._search._ROWS", 48)
    z = np.full((100, 4), 1e30, np.float32)
    z[:, 0] += np.arange(100, dtype=np.float32)[::-1] * np.float32(1e24)
    scores, rows = bulk.search(z[70:71], z, 2, fam_jax.euclidean)
    assert (scores[0, 0], rows[0, 0]) == (0, 70)


def test_a_wrong_bank():
    with pytest.raises(ValueError, match=r"embeddings: expected floats \[n, d\], got int64 \(4,"):
        bulk.search(np.ones((1, 2)), np.ones((4, 2), np.int64), 1)
    with pytest.raises(ValueError, match="k: expected 1 to 4, the embeddings there are, got 5"):
        bulk.search(np.ones((1, 2)), np.ones((4, 2)), 5)
