"""`capture` on models of other frameworks: an encoding is what the framework itself computes.

Keras mixes ranks and types in its own layers, so its cases run with JAX's default promotion.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors

import fam_jax
from tests.close import assert_close
from tests.frameworks.case import promotion
from tests.frameworks.keras_models import keras_layers
from tests.frameworks.models import CASES, make
from tests.programs import counted, on_devices

LEAVES = {
    "linen-method": 6,
    "linen-bound": 16,
    "equinox-vmap": 8,
    "equinox-state": 13,
    "keras-functional": 11,
}
each_framework = pytest.mark.parametrize(
    "name", ["linen-bound", "equinox-state", "keras-functional"]
)


@pytest.fixture(params=CASES)
def name(request):
    with promotion(request.param):
        yield request.param


@pytest.fixture
def case(name):
    return make(name)


@pytest.mark.numerics
def test_an_encoding_is_what_the_framework_itself_computes(case, images):
    v = jax.random.normal(jax.random.key(2), (2, case.outputs))

    @jax.jit
    def captured(encode, images):
        enc = encode(images)
        return enc.activations, enc.embeddings, enc.pullback(v)

    @jax.jit
    def by_itself(images):
        A = case.features(images)
        return A, case.whole(images), jax.vjp(case.head, A)[1](v)[0]

    arrays = captured(case.encoder(), images)
    assert arrays[0].shape == (2, 8, 12, 8)
    for actual, expected in zip(arrays, by_itself(images), strict=True):
        assert_close(actual, expected)


def test_parameters_are_leaves_and_new_ones_need_no_compilation(name, case, images):
    run, traces = counted(lambda encode, x: encode(x).embeddings)
    encode = case.encoder()
    leaves = jax.tree.leaves(encode)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert len(leaves) == LEAVES.get(name, len(leaves))
    assert sum(leaf.size for leaf in leaves) >= sum(np.size(w) for w in case.weights())
    half = jax.tree.map(lambda w: w / 2 if jnp.issubdtype(w.dtype, jnp.floating) else w, encode)
    first, second = run(encode, images), run(half, images)
    run(case.encoder(), images)
    assert len(traces) == 1
    assert not np.allclose(first, second)
    consts = jax.make_jaxpr(lambda encode, x: encode(x).embeddings)(encode, images).consts
    assert max(map(np.size, consts), default=0) < 20, "parameters must be arguments"


def test_an_encoder_says_in_a_line_what_it_is_of(case):
    encode = case.encoder()
    said = repr(encode)
    assert len(said) <= 120
    assert f", at={encode.at!r}, layout={encode.layout!r}" in said
    assert "array" not in said.lower()


@pytest.mark.numerics
def test_gradients_reach_images_and_parameters(case, images):
    encode = case.encoder()
    slope = jax.jit(jax.grad(lambda x, encode: encode(x).embeddings.sum()))(images, encode)
    by_itself = jax.jit(jax.grad(lambda x: case.head(case.features(x)).sum()))
    assert_close(slope, by_itself(images))
    loss = lambda encode: jnp.square(encode(images).embeddings).sum()  # noqa: E731
    slopes = jax.jit(jax.grad(loss, allow_int=True))(encode)
    reached = [np.any(np.asarray(s)) for s in jax.tree.leaves(slopes) if s.dtype != jax.float0]
    assert sum(reached) >= 4  # kernels and biases of two layers at the least


@pytest.mark.numerics
@each_framework
def test_encoders_can_be_mapped(name, images):
    case = make(name)
    with promotion(name):
        enc = jax.jit(jax.vmap(case.encoder()))(jnp.stack([images, -images]))
        assert_close(enc.activations[1], case.features(-images))
        assert_close(enc.embeddings[0], case.whole(images))


@pytest.mark.numerics
@each_framework
def test_sharded_images_need_no_communication(name):
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 8, 3))
    encode = make(name).encoder()
    run = lambda encode, x, y: fam_jax.explain_pairs(encode, x, y).query_maps  # noqa: E731
    with promotion(name):
        maps = on_devices(run, *images, shared=(encode,))
        expected = run(encode, *images)
    assert_close(maps, expected)
    assert np.any(expected)


def test_models_are_left_as_they_were(name, case, images):
    before = [np.array(w) for w in case.weights()]
    encode = case.encoder()
    first, second = encode(images), encode(images)
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    with pytest.raises((ValueError, TypeError, RuntimeError, errors.FlaxError)):
        encode(images[..., :2])  # two channels where three are expected
    for old, new in zip(before, case.weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert " tap[" not in str(jax.make_jaxpr(case.whole)(images + 1))


@pytest.mark.numerics
@each_framework
def test_half_precision(name, images):
    if name.startswith("keras"):
        keras, layers = keras_layers(dtype="bfloat16")
        model = keras.Sequential([keras.Input((None, None, 3)), *layers.values()])
        encode = fam_jax.capture(model, at="conv")
    else:
        encode = make(name).encoder()
        encode = jax.tree.map(
            lambda w: w.astype(jnp.bfloat16) if w.dtype == jnp.float32 else w, encode
        )

    @jax.jit
    def explained(encode, images):
        enc = encode(images)
        return enc, fam_jax.fam()(enc, enc.embeddings)

    with promotion(name):
        enc, maps = explained(encode, images.astype(jnp.bfloat16))
    assert enc.activations.dtype == enc.embeddings.dtype == jnp.bfloat16
    assert maps.dtype == jnp.float32
    assert np.isfinite(maps).all()
    assert np.any(maps)


PATHS = {
    "linen-bound": ("LinenBlock_0.Conv_7", "LinenBlock_0, block, fc .and within: LinenBlock_0.Con"),
    "linen-method": ("conv9", "stages_0, stages_1"),
    "equinox-vmap": ("blocks.7", r"blocks, fc, stem \(and within: blocks.1, blocks.0"),
    "equinox-state": ("stem", r"net .and within: net.stem"),
    "keras-functional": ("conv", r"backbone, pool, fc \(and within: backbone.conv"),
    "keras-sequential": ("conf", "stem, norm, drop, conv, pool, fc$"),
}


@pytest.mark.parametrize("name", PATHS)
def test_unknown_layers_are_refused_with_those_there_are(name, images):
    path, message = PATHS[name]
    with (
        promotion(name),
        pytest.raises(ValueError, match=f"no layer '{path}'; this model has: {message}"),
    ):
        make(name)._replace(at=path).encoder()(images)


WRONG = {
    "linen-bound": ("fc", r"'fc' gives an array of shape \(2, 6\); a map needs \[batch, height"),
    "equinox-vmap": ("fc", r"'fc' gives an array of shape \(2, 6\); a map needs \[batch, channel"),
    "keras-functional": ("fc", r"'fc' gives an array of shape \(2, 6\); a map needs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_layers_without_a_map_say_what_they_give(name, images):
    at, message = WRONG[name]
    with promotion(name), pytest.raises(ValueError, match=message):
        make(name)._replace(at=at).encoder()(images)
