"""A store of maps holds what `explain_pairs` says of the same pictures."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import fam_jax
from fam_jax import bulk
from fam_jax.bulk import loading, programs
from fam_jax.io import pictures
from tests.bulk import toy
from tests.close import assert_close


@pytest.fixture
def job(tmp_path):
    """A table of 11 pairs, not a multiple of anything, and a way to run it."""
    table = toy.table(tmp_path / "in", 11, images=5)

    def run(name="store", pairs=table, preprocess=None, **options):
        options = {"batch": 2, "dtype": "float32", **options}
        preprocess = preprocess or toy.Preprocess()
        done = bulk.run(toy.encoder(), pairs, tmp_path / name, preprocess=preprocess, **options)
        return done, bulk.open_store(tmp_path / name)

    return run


def expected(store, method=None):
    """Pair by pair, without any of this package's machinery."""
    rows = store.rows(range(len(store)))
    load = lambda path: toy.Preprocess()(pictures.read(path))  # noqa: E731
    both = [np.stack([load(getattr(row, side)) for row in rows]) for side in ("query", "reference")]
    return rows, jax.tree.map(np.asarray, fam_jax.explain_pairs(toy.encoder(), *both, method))


def check(store, method=None):
    rows, out = expected(store, method)
    assert [row.status for row in rows] == [1] * len(rows)
    assert_close([row.score for row in rows], out.scores)
    for i, row in enumerate(rows):
        assert_close(row.query_map, out.query_maps[i])
        assert_close(row.reference_map, out.reference_maps[i])


@pytest.mark.numerics
@pytest.mark.parametrize("once", [False, True])
def test_rows_are_explained_pairs(job, once):
    """8 devices, chunks of 2, and an incomplete last one."""
    done, store = job(once=once)
    assert (done.pairs, done.invalid) == (11, 0)
    check(store)
    row = store.rows([3])[0]
    assert row.id == "pair-3"
    assert row.query_box == (4.0, 0.0, 28.0, 24.0)  # the middle of 32 x 24 pixels


@pytest.mark.numerics
def test_any_method_of_pairs(job):
    method = fam_jax.interaction_cam(fam_jax.dot)
    _, store = job(method=method)
    check(store, method)


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2.0**-12), ("uint8", 1 / 510)])
def test_smaller_maps_are_within_their_stated_error(job, dtype, error):
    """Relative to a map's own range, however small or large the maps are."""
    _, exact = job("exact", method=fam_jax.grad_cam())
    _, small = job("small", method=fam_jax.grad_cam(), dtype=dtype)
    for a, b in zip(exact.rows(range(11)), small.rows(range(11)), strict=True):
        for side in ("query_map", "reference_map"):
            x, y = getattr(a, side), getattr(b, side)
            rounding = 1e-6 * np.abs(x).max()  # of two programs, before anything is stored
            assert np.abs(x - y).max() <= error * np.ptp(x) + rounding
    assert small.array("query_maps").dtype == dtype


def test_a_size_is_the_upsampled_map(job):
    _, raw = job("raw")
    _, large = job("large", size=10)
    a, b = raw.rows([0])[0].query_map, large.rows([0])[0].query_map
    assert_close(b, fam_jax.upsample(a[None], (10, 10))[0])


def test_all_pairs_of_two_folders(job, tmp_path):
    """A grid has the queries' and the references' axis, and says the same."""
    queries = toy.pictures(tmp_path / "q", 3)
    references = [*toy.pictures(tmp_path / "r", 4), queries[1]]
    _, store = job(pairs=bulk.grid(queries, references, 4), batch=4)
    assert store.array("query_maps").shape == (3, 5, 4, 4)
    rows = store.rows(range(15))
    assert [(row.query, row.reference) for row in rows] == [
        (q, r) for q in queries for r in references
    ]
    check(store)


class Counting(loading.Load):
    """Counts the pictures that are decoded, by name."""

    seen: ClassVar[dict[str, int]] = {}

    def __call__(self, path):
        if path:
            Counting.seen[path] = Counting.seen.get(path, 0) + 1
        return super().__call__(path)


def counted(monkeypatch):
    Counting.seen = {}
    monkeypatch.setattr(pictures, "Load", Counting)
    return Counting.seen


def test_each_picture_is_decoded_and_encoded_once_in_a_batch(job, monkeypatch):
    """One query with many references: a chunk has one picture more than pairs."""
    seen = counted(monkeypatch)
    _, first = job("names")
    names = sorted({row.query for row in first.rows(range(11))})
    seen.clear()
    images_encoded = []
    features = fam_jax.Encoder.features
    monkeypatch.setattr(
        fam_jax.Encoder, "features",
        lambda self, x: images_encoded.append(x.shape[0]) or features(self, x),
    )  # fmt: skip
    job(pairs=[(names[0], name) for name in names[1:] * 4], batch=4)
    assert seen[names[0]] == 4  # of four chunks
    assert set(images_encoded) == {2, 5}  # the shapes of the check beforehand, and of a chunk


def test_each_picture_is_decoded_once_in_a_job_of_all_pairs(job, tmp_path, monkeypatch):
    seen = counted(monkeypatch)
    paths = toy.pictures(tmp_path / "p", 6)
    job(pairs=bulk.grid(paths, paths, 4), batch=4)
    assert seen == dict.fromkeys(paths, 1)


@pytest.mark.parametrize("once", [False, True])
def test_one_compilation_for_the_whole_job(job, monkeypatch, once):
    """Of each program: full, incomplete and padded steps are of one shape."""
    rows, made = toy_rows(job, 37), []

    class Kept(programs.Spread):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    for module in ("job", "encode_once"):
        monkeypatch.setattr(f"fam_jax.bulk.{module}.Spread", Kept)
    job(pairs=rows, once=once)
    assert [spread.compiled._cache_size() for spread in made] == [1] * len(made)
    assert len(made) == 1 + once


def toy_rows(job, n):
    _, store = job("names")
    names = sorted({row.query for row in store.rows(range(11))})
    return [(names[i % len(names)], names[(i * i) % len(names)]) for i in range(n)]


def test_no_communication_between_devices(job, monkeypatch):
    """The program of a step has no collective in it."""
    texts = []

    class Compiled(programs.Spread):
        def __call__(self, inputs):
            arrays = jax.tree.map(
                lambda x: jax.make_array_from_process_local_data(self._split, x), inputs
            )
            texts.append(self.compiled.lower(self._parameters, arrays).compile().as_text())
            return super().__call__(inputs)

    monkeypatch.setattr("fam_jax.bulk.job.Spread", Compiled)
    job()
    assert texts
    for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert word not in texts[0]


def test_bfloat16_networks(tmp_path):
    """A backbone that computes in bfloat16; maps and scores are float32 all the same."""
    import pretrained_ports

    table = toy.table(tmp_path / "in", 3, images=3)
    stores = []
    for dtype in (jnp.float32, jnp.bfloat16):
        backbone = pretrained_ports.load("tiny", param_dtype=dtype)
        encode = fam_jax.capture(backbone.model, at=backbone.layer)
        store = tmp_path / jnp.dtype(dtype).name
        bulk.run(encode, table, store, preprocess=backbone.preprocess, batch=1)
        stores.append(bulk.open_store(store).scores())
    assert stores[1].dtype == np.float32
    np.testing.assert_allclose(stores[0], stores[1], atol=0.02)


def test_readers_in_processes_of_their_own(job):
    """Bit for bit what threads give."""
    _, threads = job("threads")
    _, workers = job("workers", workers=2)
    np.testing.assert_array_equal(threads.array("query_maps"), workers.array("query_maps"))


def test_a_store_of_another_job_is_refused_with_the_difference(job, tmp_path):
    job()
    before = toy.files(tmp_path / "store")
    with pytest.raises(ValueError, match=r"\(batch: 2 there, 4 now\); take another --out"):
        job(batch=4)
    with pytest.raises(ValueError, match=r"method: Method\(.* there, Method\(.* now\)"):
        job(method=fam_jax.decomposition())
    with pytest.raises(ValueError, match="parameters_sha256"):
        job(method=fam_jax.contrastive(jnp.ones((2, 5))))
    assert toy.files(tmp_path / "store") == before


def test_a_finished_job_does_nothing_again(job, tmp_path, monkeypatch):
    job()
    before = toy.files(tmp_path / "store")
    seen = counted(monkeypatch)
    done, _ = job()
    assert (done.pairs, done.phases, seen) == (11, (), {})
    assert toy.files(tmp_path / "store") == before


def test_a_folder_of_something_else_is_left_alone(job, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is no store and not empty: it holds thesis\.tex"):
        job()
    assert toy.files(tmp_path / "store") == {"thesis.tex": b"mine"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int4"}, "dtype: expected one of float16, uint8, float32"),
        ({"batch": 0}, "batch"),
        ({"size": 0}, "size"),
        ({"preprocess": lambda picture: np.zeros(3)}, r"pictures \[H, W, c\], got shape \(3,\)"),
    ],
)
def test_wrong_options(job, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        job(**options)
    assert not (tmp_path / "store").exists()


def test_zarr_readers_find_ordinary_arrays(job, tmp_path):
    """TensorStore alone, without this package."""
    import tensorstore as ts

    _, store = job()
    array = ts.open(
        {"driver": "zarr3", "kvstore": f"file://{tmp_path}/store/query_maps/"}, read=True
    ).result()
    np.testing.assert_array_equal(array.read().result(), store.array("query_maps"))


def test_folders_and_pictures_of_any_name(tmp_path):
    """Nothing in a path is taken for part of a URL, a pattern or a format."""
    folder = tmp_path / "50% off? #1 [ü] {0} %20"
    (path,) = toy.pictures(folder, 1)
    other = folder / "%41*?.png"
    Image.open(path).save(other)
    bulk.run(toy.encoder(), [(path, str(other))], folder / "a store", preprocess=toy.Preprocess())
    (row,) = bulk.open_store(folder / "a store").rows([0])
    assert (row.status, row.reference) == (1, str(other))
    names = {child.name for child in folder.iterdir()}
    assert names == {"000.png", "%41*?.png", "a store"}


def test_progress_counts_every_row(job):
    seen = []
    job(on_step=seen.append)
    assert [p.done for p in seen] == [11]  # eight devices take six chunks at once
    assert (seen[-1].total, seen[-1].computed, seen[-1].invalid) == (11, 11, 0)


def test_pictures_of_another_size_make_their_rows_invalid(job, tmp_path):
    """A preprocess that does not give one shape for all."""

    def preprocess(picture):
        return np.asarray(picture.resize((16, 16 if picture.width != 40 else 32)), np.float32)

    paths = toy.pictures(tmp_path / "p", 2)
    Image.new("RGB", (40, 40)).save(tmp_path / "p" / "wide.png")
    pairs = [(paths[0], paths[1]), (paths[0], str(tmp_path / "p" / "wide.png"))]
    done, store = job(pairs=pairs, preprocess=preprocess)
    assert done.invalid == 1
    assert "preprocess gave (32, 16, 3) where others have (16, 16, 3)" in store.rows([1])[0].reason


class Dropping(nnx.Module):
    """With a scalar parameter and a random stream, as networks have them."""

    def __init__(self, rngs):
        self.scale = nnx.Param(jnp.float32(2.0))
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs, deterministic=True)

    def __call__(self, x):
        return self.dropout(nnx.relu(self.conv(x)) * self.scale[...]).mean((1, 2))


@pytest.mark.parametrize("once", [False, True])
def test_networks_with_scalars_and_random_streams(job, tmp_path, once):
    """Their leaves are no plain arrays of numbers."""
    rows = toy_rows(job, 3)
    encode = fam_jax.capture(Dropping(nnx.Rngs(0)), at="conv")
    bulk.run(encode, rows, tmp_path / "s", preprocess=toy.Preprocess(), batch=1, once=once)
    found = bulk.open_store(tmp_path / "s").rows(range(3))
    both = [jnp.stack([toy.Preprocess()(pictures.read(r[i])) for r in rows]) for i in (0, 1)]
    out = fam_jax.explain_pairs(encode, *both)
    assert_close([row.score for row in found], out.scores, relative_to=1)  # cosines


def test_what_is_no_encoder_or_no_method_is_refused(job, tmp_path, unchecked):
    options = {"preprocess": toy.Preprocess()}
    with pytest.raises(TypeError, match=r"encode: expected fam_jax.capture\(model, at=.*\)"):
        bulk.run(lambda x: x, [("a", "b")], tmp_path / "s", **options)
    with pytest.raises(TypeError, match="method: expected a Method such as fam"):
        bulk.run(toy.encoder(), [("a", "b")], tmp_path / "s", method="fam", **options)
