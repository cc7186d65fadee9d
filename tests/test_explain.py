"""`explain`, `explain_pairs`, `explain_all`: batches, devices, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from tests import heads

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.fc = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, images):
        return self.fc(nnx.relu(self.norm(self.conv(images))).mean((1, 2)))


@pytest.fixture
def encode():
    return fam_jax.capture(Net(nnx.Rngs(0)), at="norm")


def pictures(n, seed=0, size=(6, 8)):
    return jax.random.normal(jax.random.key(seed), (n, *size, 3))


def test_explain_is_the_method_on_the_encoding(encode):
    x, r = pictures(3), jax.random.normal(jax.random.key(1), (3, 5))
    out = fam_jax.explain(encode, x, r, method=fam_jax.decomposition())
    enc = encode(x)
    expected = fam_jax.decomposition()(enc, r)
    np.testing.assert_allclose(out.maps, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out.scores, fam_jax.cosine.score(enc.embeddings, r), rtol=1e-5)
    assert out.valid.all()


def test_fam_explains_both_images_with_the_same_weights(encode):
    x, y = pictures(3), pictures(3, 1, (10, 4))
    out = fam_jax.explain_pairs(encode, x, y)
    q, r = encode(x), encode(y)
    w = fam_jax.fam().weights(q.embeddings, r.embeddings)
    np.testing.assert_allclose(out.query_maps, fam_jax.fam().maps(q, w), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.reference_maps, fam_jax.fam().maps(r, w), rtol=1e-4, atol=1e-5)
    assert out.reference_maps.shape == (3, 10, 4)


@pytest.mark.parametrize("make", [fam_jax.fam, fam_jax.decomposition, fam_jax.grad_cam])
def test_exchanging_a_pair_exchanges_its_maps(encode, make):
    x, y = pictures(3), pictures(3, 1)
    there = fam_jax.explain_pairs(encode, x, y, make())
    back = fam_jax.explain_pairs(encode, y, x, make())
    np.testing.assert_allclose(there.query_maps, back.reference_maps, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(there.scores, back.scores, rtol=1e-5)


def test_gradients_reach_images_and_parameters(encode):
    x, y = pictures(2), pictures(2, 1)
    loss = lambda encode, x: jnp.sum(fam_jax.explain_pairs(encode, x, y).query_maps ** 2)  # noqa: E731
    parameters, images = jax.grad(loss, argnums=(0, 1))(encode, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters))
    assert np.abs(images).max() > 0
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(parameters)) > 0


def test_maps_inside_an_nnx_training_step():
    model = Net(nnx.Rngs(0))
    x, y = pictures(2), pictures(2, 1)

    @nnx.jit
    def step(model):
        def loss(model):
            return fam_jax.explain_pairs(fam_jax.capture(model, at="norm"), x, y).query_maps.sum()

        return nnx.value_and_grad(loss)(model)

    value, slopes = step(model)
    outside = fam_jax.explain_pairs(fam_jax.capture(model, at="norm"), x, y).query_maps.sum()
    np.testing.assert_allclose(value, outside, rtol=1e-5)
    assert np.abs(slopes["conv"]["kernel"][...]).max() > 0


def test_float64_end_to_end(x64):
    model = Net(nnx.Rngs(0))
    graph, state = nnx.split(model)
    wide = nnx.merge(graph, jax.tree.map(lambda v: v.astype(jnp.float64), state))
    out = fam_jax.explain_pairs(
        fam_jax.capture(wide, at="norm"),
        pictures(2).astype(jnp.float64),
        pictures(2, 1).astype(jnp.float64),
    )
    assert out.query_maps.dtype == jnp.float64


def test_bfloat16_end_to_end(encode):
    low = jax.tree.map(lambda v: v.astype(jnp.bfloat16), encode)
    x, y = pictures(4), pictures(4, 1)
    out = fam_jax.explain_pairs(low, x.astype(jnp.bfloat16), y.astype(jnp.bfloat16))
    exact = fam_jax.explain_pairs(encode, x, y)
    assert out.query_maps.dtype == jnp.float32
    error = np.abs(out.query_maps - exact.query_maps).max()
    assert error <= 0.1 * np.abs(exact.query_maps).max()


@pytest.mark.parametrize(
    "method",
    [
        fam_jax.fam(),
        fam_jax.decomposition(),
        fam_jax.grad_cam(),
        fam_jax.fam(fam_jax.margin(fam_jax.cosine, jnp.ones((4, 5))), normalize="none"),
    ],
    ids=["fam", "decomposition", "grad_cam", "contrastive fam"],
)
def test_sharded_pairs_need_no_communication(encode, method):
    """Maps scale over devices by construction: the compiled program has no collective."""
    x, y = pictures(16), pictures(16, 1)
    expected = fam_jax.explain_pairs(encode, x, y, method)
    mesh = jax.make_mesh((8,), ("batch",))
    put = lambda x: jax.device_put(x, jax.NamedSharding(mesh, jax.P("batch")))  # noqa: E731
    everywhere = jax.device_put((encode, method), jax.NamedSharding(mesh, jax.P()))
    run = jax.jit(lambda both, x, y: fam_jax.explain_pairs(both[0], x, y, both[1]))
    text = run.lower(everywhere, put(x), put(y)).compile().as_text()
    assert not [name for name in COLLECTIVES if name in text]
    out = run(everywhere, put(x), put(y))
    assert out.query_maps.sharding.spec[0] == "batch"
    np.testing.assert_allclose(out.query_maps, expected.query_maps, rtol=1e-4, atol=1e-5)


def test_sharded_queries_against_all_references(encode):
    x, r = pictures(16), jax.random.normal(jax.random.key(1), (5, 5))
    shard = jax.NamedSharding(jax.make_mesh((8,), ("batch",)), jax.P("batch"))
    out = fam_jax.explain_all(encode, jax.device_put(x, shard), r)
    expected = fam_jax.explain_all(encode, x, r)
    np.testing.assert_allclose(out.maps, expected.maps, rtol=1e-4, atol=1e-5)
    assert out.maps.sharding.spec[0] == "batch"


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_all_pairs_do_not_depend_on_the_chunk(encode, chunk):
    x, y = pictures(4), pictures(7, 1)
    out = fam_jax.explain_all(encode, x, y, chunk=chunk)
    assert out.maps.shape == (4, 7, 6, 8)
    assert out.scores.shape == out.valid.shape == (4, 7)
    for q in range(4):
        for r in range(0, 7, 3):
            pair = fam_jax.explain_pairs(encode, x[q : q + 1], y[r : r + 1])
            np.testing.assert_allclose(out.maps[q, r], pair.query_maps[0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(out.scores[q, r], pair.scores[0], rtol=1e-5)


def test_references_may_be_embeddings(encode):
    x, y = pictures(3), pictures(5, 1)
    images = fam_jax.explain_all(encode, x, y)
    embeddings = fam_jax.explain_all(encode, x, encode(y).embeddings)
    np.testing.assert_allclose(images.maps, embeddings.maps, rtol=1e-4, atol=1e-5)


def test_each_image_is_encoded_once():
    """For Q x R pairs the network runs over Q + R images: counted in the compiled arithmetic."""
    features = lambda x: jax.lax.conv_general_dilated(  # noqa: E731
        x, jnp.ones((5, 5, 3, 32)), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    encode = fam_jax.encoder(features, lambda A: A.mean((1, 2)))

    def flops(f, *args):
        return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]

    x, y = pictures(4, size=(16, 16)), pictures(4, 1, size=(16, 16))
    forward = flops(features, jnp.concatenate([x, y]))
    total = flops(lambda x, y: fam_jax.explain_all(encode, x, y).maps, x, y)
    assert total < 1.5 * forward  # sixteen passes would be twice the eight of Q + R


def test_memory_is_bounded_by_the_chunk():
    """Ten times the references: the same scratch memory beside arguments and result."""
    head = heads.make("flatten", 6, 6, 32)

    def scratch(references):
        run = jax.jit(lambda x, r: fam_jax.explain_all(head.encode, x, r, chunk=8))
        shapes = (
            jax.ShapeDtypeStruct((16, 6, 6, 32), jnp.float32),
            jax.ShapeDtypeStruct((references, 6 * 6 * 32), jnp.float32),
        )
        memory = run.lower(*shapes).compile().memory_analysis()
        return memory.temp_size_in_bytes, memory.output_size_in_bytes

    small, small_out = scratch(80)
    large, large_out = scratch(800)
    assert large - small <= 2 * (large_out - small_out)
    assert large < 800 * 16 * 6 * 6 * 32 * 4 / 4  # far from every pair's pullback at once


def test_one_compilation_for_remade_encoders_and_methods():
    from fam_jax.explain import _explain_pairs

    size = (5, 9)  # of no other test
    model, x, y = Net(nnx.Rngs(0)), pictures(2, 0, size), pictures(2, 1, size)
    before = _explain_pairs._cache_size()
    for _ in range(3):
        fam_jax.explain_pairs(fam_jax.capture(model, at="norm"), x, y, fam_jax.fam())
    assert _explain_pairs._cache_size() == before + 1


def test_numpy_images_are_fine(encode):
    out = fam_jax.explain_pairs(encode, np.asarray(pictures(2)), np.asarray(pictures(2, 1)))
    assert out.query_maps.shape == (2, 6, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e, x: fam_jax.explain_pairs(e, x, x[:1]), ValueError, "2 queries but 1 references"),
        (lambda e, x: fam_jax.explain_pairs(e, x[0], x), ValueError, "queries: expected an array"),
        (lambda e, x: fam_jax.explain(e, x, x), ValueError, "references: expected an array"),
        (lambda e, x: fam_jax.explain(e, x, jnp.ones((2, 4))), ValueError, r"\(2, 4\), embeddings"),
        (lambda e, x: fam_jax.explain_all(e, x, x, chunk=0), ValueError, "chunk: expected a pos"),
        (lambda e, x: fam_jax.explain_pairs(e, x, x, "fam"), TypeError, "method: expected a Meth"),
        (lambda e, x: fam_jax.explain_pairs(None, x, x), TypeError, "encode: expected fam_jax.cap"),
        (
            lambda e, x: fam_jax.explain_pairs(lambda x: x.mean((1, 2)), x, x),
            TypeError,
            "expected an Encoding",
        ),
    ],
)
def test_wrong_arguments_are_refused(encode, call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call(encode, pictures(2))
