"""Jobs on files that are no pictures, by a loader of one's own."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fam_jax
from fam_jax import bulk, report
from tests.close import assert_close

STEPS, CHANNELS = 12, 3


def encoder():
    def features(x):  # means of three samples
        return x.reshape(len(x), STEPS // 3, 3, CHANNELS).mean(2)

    return fam_jax.encoder(features, lambda A: A.mean(1))


@pytest.fixture
def signals(tmp_path):
    """Five files, one of another length, one that is gone, and one of other numbers."""
    rng = np.random.default_rng(0)
    names = [str(tmp_path / f"{i}.npy") for i in range(6)]
    for i, name in enumerate(names[:5]):
        x = rng.normal(size=(STEPS + (i == 3), CHANNELS))
        np.save(name, x + 1j if i == 4 else x.astype(np.float32))
    return names


def run(signals, tmp_path, **options):
    pairs = [(signals[0], signals[i]) for i in range(1, 6)]
    load = bulk.Loader(np.load, (STEPS, CHANNELS))
    options = {"load": load, "batch": 2, "method": fam_jax.decomposition(), **options}
    done = bulk.run(encoder(), pairs, tmp_path / "store", **options)
    return done, bulk.open_store(tmp_path / "store")


@pytest.mark.parametrize(("dtype", "digits"), [("float32", 1e-6), ("uint8", 0.01)])
def test_a_store_of_signals_holds_what_explain_pairs_gives(signals, tmp_path, dtype, digits):
    done, store = run(signals, tmp_path, dtype=dtype)
    assert (done.pairs, done.invalid) == (5, 3)
    rows = store.rows(range(5))
    x = np.stack([np.load(name) for name in signals[:3]])
    out = fam_jax.explain_pairs(encoder(), x[[0, 0]], x[1:], fam_jax.decomposition())
    for i in range(2):
        assert rows[i].query_map.shape == (STEPS // 3,)
        assert rows[i].query_box is None
        assert_close(rows[i].query_map, out.query_maps[i], rtol=digits)
        assert_close(rows[i].score, out.scores[i], rtol=1e-6)
    reasons = [row.reason for row in rows[2:]]
    parts = "(12, 3), got (13, 3)", "float32, got comp", "No such file"
    for reason, part in zip(reasons, parts, strict=True):
        assert part in reason
    again, _ = run(signals, tmp_path, dtype=dtype)
    assert not any(phase.computed for phase in again.phases)
    with pytest.raises(ValueError, match="the store of another job"):
        run(signals, tmp_path, dtype=dtype, load=bulk.Loader(np.fromfile, (STEPS, CHANNELS)))


def test_maps_are_enlarged_and_features_kept(signals, tmp_path):
    _, store = run(signals, tmp_path, size=8, once=True)
    assert store.rows([0])[0].query_map.shape == (8,)


def test_token_ids_are_loaded_as_they_are(tmp_path):
    table = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    encode = fam_jax.encoder(lambda ids: jnp.asarray(table)[ids], lambda A: A.mean(1))
    load = bulk.Loader(lambda text: [int(x) for x in text.split()], (3,), np.int32)
    done = bulk.run(encode, [("1 2 3", "4 5 6")], tmp_path / "ids", load=load, batch=1)
    assert done.invalid == 0
    assert bulk.open_store(tmp_path / "ids").rows([0])[0].query_map.shape == (3,)


def test_a_report_is_of_pictures_and_a_job_reads_in_one_way(signals, tmp_path):
    _, store = run(signals, tmp_path)
    with pytest.raises(ValueError, match=r"a report shows maps of pictures .* shape \(4,\)"):
        report.write(store, tmp_path / "page", read=lambda path: Image.new("RGB", (64, 48)))
    with pytest.raises(TypeError, match="run: pass preprocess=, for pictures, or load="):
        run(signals, tmp_path, load=None)


@pytest.mark.parametrize("order", ["<f4", ">f4"])
def test_files_in_either_order_of_bytes_and_a_loader_of_either(signals, tmp_path, order):
    """What is read is converted; what JAX gets has this machine's order."""
    load = bulk.Loader(lambda path: np.load(path).astype(order), (STEPS, CHANNELS), order)
    _, found = run(signals, tmp_path / order, load=load)
    _, expected = run(signals, tmp_path / "plain")
    np.testing.assert_array_equal(found.rows([0])[0].query_map, expected.rows([0])[0].query_map)


def test_what_is_behind_a_mask_is_not_read(tmp_path):
    np.save(tmp_path / "0.npy", np.ones((STEPS, CHANNELS), "f"))
    load = bulk.Loader(lambda path: np.ma.masked_invalid(np.load(path)), (STEPS, CHANNELS))
    _, store = run([str(tmp_path / "0.npy")] * 6, tmp_path, load=load)
    assert (
        "read: expected an array without a mask; read.filled(value) has none"
        in store.rows([0])[0].reason
    )
