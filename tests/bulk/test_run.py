"""A store of maps holds what `explain_pairs` says of the same pictures."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import fam_jax
from fam_jax import bulk
from fam_jax.bulk import _programs
from fam_jax.io import pictures
from tests.bulk import toy
from tests.close import assert_close


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


def attention(images):
    """A class token and 8 x 8 patches that attend to each other, by 4 heads, twice."""
    x = images.reshape(-1, 8, 2, 8, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 64, 12)
    x = jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1)
    for block in range(2):
        qk = fam_jax.tap(x, f"qk{block}").reshape(-1, 65, 4, 3)
        A = fam_jax.tap(jax.nn.softmax(jnp.einsum("bihc,bjhc->bhij", qk, qk)), f"attn{block}")
        x = x + jnp.einsum("bhij,bjhc->bihc", A, qk).reshape(-1, 65, 12)
    return x[:, 0]


def test_attention_of_a_few_pairs_is_in_memory_at_a_time(monkeypatch):
    """The same maps; and four times the pairs take no more than their own results beside it."""
    encode = fam_jax.capture(attention, at="qk0", tokens=fam_jax.TokenGrid(prefix=1))
    method = fam_jax.le_grad(layers=("attn0", "attn1"))
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (6, toy.SIDE, toy.SIDE, 3)).astype(np.float32)
    picture = 2 * 4 * 65 * 65 * 4  # bytes of two layers' matrices

    def explained(pairs, kept):
        monkeypatch.setattr(_programs, "_KEPT", kept)
        rows = {side: np.arange(pairs) * k % 6 for side, k in (("query", 1), ("reference", 5))}
        explain = partial(_programs.explain_chunk, size=None, dtype="float32")
        given = (encode, method), {"images": images, **rows}
        run = jax.jit(lambda *given: explain(*given)).lower(*given).compile()
        return run(*given), run.memory_analysis().temp_size_in_bytes

    few, some = explained(8, 2 * 2 * picture)
    many, more = explained(32, 2 * 2 * picture)
    assert more - some < 2 * picture
    assert more > 2 * 2 * picture, "what is measured holds no matrices"
    whole, most = explained(32, 2**30)
    assert most > 5 * more
    assert whole["query_maps"].any((1, 2)).all()
    for name, x in whole.items():
        assert_close(many[name], x)
        assert_close(few[name], x[:8])


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


def test_bfloat16_networks(tmp_path):
    """A backbone that computes in bfloat16; maps and scores are float32 all the same."""
    import pretrained_ports

    table = toy.table(tmp_path / "in", 3, images=3)
    stores = []
    for dtype in (jnp.float32, jnp.bfloat16):
        backbone = pretrained_ports.load("tiny", param_dtype=dtype)
        encode = fam_jax.capture(backbone)
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


@pytest.mark.parametrize("of", [bulk.run, bulk.index])
def test_an_encoder_of_several_layers_is_refused_before_anything_is_made(tmp_path, of, unchecked):
    encode = fam_jax.capture(
        lambda x: fam_jax.tap(fam_jax.tap(x, "a"), "b").mean((1, 2)), ("a", "b")
    )
    given = [("a.png", "b.png")] if of is bulk.run else ["a.png"]
    with pytest.raises(TypeError, match=r"of one layer, or fam_jax\.encoder, got LayersEncoder"):
        of(encode, given, tmp_path / "store", preprocess=toy.Preprocess())
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_a_large_picture_is_no_warning_of_a_process_that_reads(tmp_path, capfd):
    """Its size is checked by ours; one that is larger is a row with its reason."""
    for name, side in (("large.png", 9_500), ("larger.png", 10_001)):
        Image.new("1", (side, side), 1).save(tmp_path / name)
    pairs = [(str(tmp_path / name), str(tmp_path / name)) for name in ("large.png", "larger.png")]
    store = tmp_path / "store"
    bulk.run(toy.encoder(), pairs, store, preprocess=toy.Preprocess(), workers=1)
    read, left_out = bulk.open_store(store).rows([0, 1])
    assert (read.reason, "10001 x 10001 pixels; at most" in left_out.reason) == ("", True)
    assert "Warning" not in capfd.readouterr().err


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
    rows = toy.rows(job, 3)
    encode = fam_jax.capture(Dropping(nnx.Rngs(0)), at="conv")
    bulk.run(encode, rows, tmp_path / "s", preprocess=toy.Preprocess(), batch=1, once=once)
    records = bulk.open_store(tmp_path / "s").rows(range(3))
    both = [jnp.stack([toy.Preprocess()(pictures.read(r[i])) for r in rows]) for i in (0, 1)]
    out = fam_jax.explain_pairs(encode, *both)
    assert_close([row.score for row in records], out.scores, relative_to=1)  # cosines
