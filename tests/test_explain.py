"""`explain`, `explain_pairs`, `explain_all`: batches, devices, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from tests import heads
from tests.close import assert_close
from tests.programs import on_devices

# In float64, where two programs of one formula agree to many digits.
pytestmark = pytest.mark.usefixtures("x64")

METHODS = {
    "fam": fam_jax.fam(),
    "decomposition": fam_jax.decomposition(),
    "grad_cam": fam_jax.grad_cam(),
    "contrastive fam": fam_jax.fam(
        fam_jax.margin(fam_jax.cosine, np.ones((4, 5))), normalize="none"
    ),
}


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.fc = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, images):
        return self.fc(nnx.relu(self.norm(self.conv(images))).mean((1, 2)))


def network():
    graph, state = nnx.split(Net(nnx.Rngs(0)))
    return nnx.merge(graph, jax.tree.map(lambda x: x.astype(jnp.float64), state))


@pytest.fixture(scope="module")
def encode():
    with jax.enable_x64(True):
        return fam_jax.capture(network(), at="norm")


def pictures(n, seed=0, size=(6, 8), dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, *size, 3)).astype(dtype)


def embeddings(n):
    return np.random.default_rng(1).normal(size=(n, 5))


@jax.jit
def by_all(encode, methods, x, y):
    """The methods in one program, which is compiled sooner than one for each."""
    return {name: fam_jax.explain_pairs(encode, x, y, of) for name, of in methods.items()}


def test_explain_is_the_method_on_the_encoding(encode):
    x, r = pictures(3), embeddings(3)
    out = fam_jax.explain(encode, x, r, method=fam_jax.decomposition())
    enc = encode(x)
    expected = jax.jit(fam_jax.decomposition())(enc, r)
    assert out.maps.dtype == jnp.float64
    assert_close(out.maps, expected, rtol=1e-10)
    score = fam_jax.cosine.score(enc.embeddings, r)
    assert_close(out.scores, score, relative_to=1, rtol=1e-10)  # cosines
    assert out.valid.all()


def test_fam_explains_both_images_with_the_same_weights(encode):
    x, y = pictures(3), pictures(3, 1, (10, 4))
    out = fam_jax.explain_pairs(encode, x, y)
    q, r = encode(x), encode(y)
    w = fam_jax.minmax(fam_jax.cosine.shares(q.embeddings, r.embeddings))
    for enc, maps in ((q, out.query_maps), (r, out.reference_maps)):
        alpha = enc.pullback(w).sum((1, 2))
        expected = jnp.einsum("bhwc,bc->bhw", enc.activations, alpha)
        assert_close(maps, expected, rtol=1e-10)
    assert out.reference_maps.shape == (3, 10, 4)


@pytest.mark.parametrize("name", ["fam", "decomposition", "grad_cam"])
def test_exchanging_a_pair_exchanges_its_maps(encode, name):
    x, y = pictures(8), pictures(8, 1)
    there, back = (by_all(encode, METHODS, *pair)[name] for pair in ((x, y), (y, x)))
    assert_close(there.query_maps, back.reference_maps, rtol=1e-10)
    assert_close(there.scores, back.scores, relative_to=1, rtol=1e-10)  # cosines


def test_gradients_reach_images_and_parameters(encode):
    x, y = pictures(2), pictures(2, 1)
    loss = lambda encode, x: jnp.sum(fam_jax.explain_pairs(encode, x, y).query_maps ** 2)  # noqa: E731
    parameters, images = jax.jit(jax.grad(loss, argnums=(0, 1)))(encode, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters))
    assert np.abs(images).max() > 0
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(parameters)) > 0


def test_maps_inside_an_nnx_training_step():
    model = network()
    x, y = pictures(2), pictures(2, 1)

    @nnx.jit
    def step(model):
        def loss(model):
            return fam_jax.explain_pairs(fam_jax.capture(model, at="norm"), x, y).query_maps.sum()

        return nnx.value_and_grad(loss)(model)

    value, slopes = step(model)
    outside = fam_jax.explain_pairs(fam_jax.capture(model, at="norm"), x, y).query_maps
    assert_close(value, outside.sum(), relative_to=outside, rtol=1e-10)
    assert np.abs(slopes["conv"]["kernel"][...]).max() > 0


@pytest.mark.numerics
def test_bfloat16_end_to_end(encode):
    """Digits of the largest value of the maps."""
    x, y = pictures(8), pictures(8, 1)
    exact = by_all(encode, METHODS, x, y)["fam"].query_maps
    for dtype, digits in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.1)):
        low = jax.tree.map(lambda v, to=dtype: v.astype(to), encode)
        out = fam_jax.explain_pairs(low, x.astype(dtype), y.astype(dtype))
        assert out.query_maps.dtype == jnp.float32
        assert_close(out.query_maps, exact, rtol=digits)


def test_sharded_pairs_need_no_communication(encode):
    """Maps scale over devices by construction: the compiled program has no collective."""
    x, y = pictures(8), pictures(8, 1)
    expected = by_all(encode, METHODS, x, y)
    for name, out in on_devices(by_all, x, y, shared=(encode, METHODS)).items():
        assert out.query_maps.sharding.spec[0] == "batch"
        assert_close(out.query_maps, expected[name].query_maps, rtol=1e-10)


def test_sharded_queries_against_all_references(encode):
    x, r = pictures(8), embeddings(5)
    shard = jax.NamedSharding(jax.make_mesh((8,), ("batch",)), jax.P("batch"))
    out = fam_jax.explain_all(encode, jax.device_put(x, shard), r)
    assert_close(out.maps, fam_jax.explain_all(encode, x, r).maps, rtol=1e-10)
    assert out.maps.sharding.spec[0] == "batch"


@pytest.fixture(scope="module")
def pairs(encode):
    """Every pair of four queries and seven references by itself."""
    with jax.enable_x64(True):
        x, y = pictures(4).repeat(7, 0), np.tile(pictures(7, 1), (4, 1, 1, 1))
        return jax.tree.map(
            lambda x: np.asarray(x).reshape(4, 7, *x.shape[1:]),
            fam_jax.explain_pairs(encode, x, y),
        )


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_all_pairs_do_not_depend_on_the_chunk(encode, pairs, chunk):
    out = fam_jax.explain_all(encode, pictures(4), pictures(7, 1), chunk=chunk)
    assert out.maps.shape == (4, 7, 6, 8)
    assert out.scores.shape == out.valid.shape == (4, 7)
    assert_close(out.maps, pairs.query_maps, rtol=1e-10)
    assert_close(out.scores, pairs.scores, relative_to=1, rtol=1e-10)  # cosines


def test_references_may_be_embeddings(encode, pairs):
    z = encode(pictures(7, 1)).embeddings
    out = fam_jax.explain_all(encode, pictures(4), z)
    assert_close(out.maps, pairs.query_maps, rtol=1e-10)


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
    from fam_jax.methods.explain import _explain_pairs

    size = (5, 9)  # of no other test
    model, x, y = network(), pictures(2, 0, size), pictures(2, 1, size)
    before = _explain_pairs._cache_size()
    for _ in range(3):
        fam_jax.explain_pairs(fam_jax.capture(model, at="norm"), x, y, fam_jax.fam())
    assert _explain_pairs._cache_size() == before + 1


@pytest.mark.parametrize("of", ["explain", "explain_pairs", "explain_all", "method"])
def test_an_encoder_of_several_layers_is_refused_with_the_way_on(of, unchecked):
    """Which works: the maps of each layer are those of its own encoder, of images and of pairs."""
    model, x, y = network(), pictures(2), pictures(2, 1)
    encode = fam_jax.capture(model, at=("conv", "norm"))
    z, method = encode(y)[0].embeddings, fam_jax.fam()
    calls = {
        "explain": lambda: fam_jax.explain(encode, x, z),
        "explain_pairs": lambda: fam_jax.explain_pairs(encode, x, y),
        "explain_all": lambda: fam_jax.explain_all(encode, x, z),
        "method": lambda: method(encode(x), z),
    }
    with pytest.raises(TypeError, match=r"of 2 layers.* for enc in encode\(images\)") as caught:
        calls[of]()
    assert "\n" not in str(caught.value)
    for at, a, b in zip(encode.at, encode(x), encode(y), strict=True):
        out = fam_jax.explain_pairs(fam_jax.capture(model, at=at), x, y)
        for one, other in zip(method.pair(a, b), (out.query_maps, out.reference_maps), strict=True):
            assert_close(one, other, rtol=1e-5)


def test_numpy_images_are_fine(encode):
    out = fam_jax.explain_pairs(encode, np.asarray(pictures(2)), np.asarray(pictures(2, 1)))
    assert out.query_maps.shape == (2, 6, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e, x: fam_jax.explain_pairs(e, x, x[:1]), ValueError, "2 queries but 1 references"),
        (lambda e, x: fam_jax.explain_pairs(e, x[0, 0, 0], x), ValueError, "queries: expected an"),
        (lambda e, x: fam_jax.explain(e, x, x), ValueError, "references: expected an array"),
        (lambda e, x: fam_jax.explain(e, x, np.ones((2, 4))), ValueError, r"\(2, 4\), embeddings"),
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
