"""Which of a model's outputs is the embedding, and models inside `jit`."""

from collections import OrderedDict
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx, struct

import fam_jax

IMAGES = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))


class Pair(NamedTuple):
    first: object
    second: object


@struct.dataclass
class Out:
    pooled: object
    tokens: object


def features(images):
    x = fam_jax.tap(jnp.tanh(images), "a")
    return x, x.mean((1, 2)), x.max((1, 2))


def of(form):
    return lambda images: form(*features(images))


MEAN, MAX = jnp.tanh(IMAGES).mean((1, 2)), jnp.tanh(IMAGES).max((1, 2))
ASKED = {
    "key": (of(lambda x, mean, top: {"mean": mean, "max": top}), "max", MAX),
    "index": (of(lambda x, mean, top: (mean, top)), 1, MAX),
    "from the end": (of(lambda x, mean, top: [mean, top]), -1, MAX),
    "place of a name": (of(lambda x, mean, top: {"out": Pair(mean, top)}), "out.-1", MAX),
    "path": (of(lambda x, mean, top: {"text": None, "image": (x, top)}), "image.1", MAX),
    "key with a dot": (of(lambda x, mean, top: {"a.b": top, "c": mean}), "a.b", MAX),
    "attribute": (of(lambda x, mean, top: Out(top, mean)), "pooled", MAX),
    "name": (of(lambda x, mean, top: Pair(mean, top)), "second", MAX),
    "function": (of(lambda x, mean, top: (mean, top)), lambda out: out[0] + out[1], MEAN + MAX),
}
ONLY = {
    "dict": of(lambda x, mean, top: OrderedDict(tokens=x, pooled=mean)),
    "tuple": of(lambda x, mean, top: (mean, None, x)),
    "dataclass": of(lambda x, mean, top: Out(mean, x)),
    "nested": of(lambda x, mean, top: {"vision": {"tokens": x, "pooled": mean}}),
}


@pytest.mark.parametrize("name", ASKED)
def test_the_output_that_is_asked_for_is_the_embedding(name):
    fn, output, expected = ASKED[name]
    enc = fam_jax.capture(fn, at="a", output=output)(IMAGES)
    np.testing.assert_allclose(enc.embeddings, expected, rtol=1e-6)
    assert enc.pullback(enc.embeddings).shape == IMAGES.shape


@pytest.mark.parametrize("name", ONLY)
def test_the_only_row_per_image_is_the_embedding(name):
    encode = fam_jax.capture(ONLY[name], at="a")
    np.testing.assert_allclose(encode(IMAGES).embeddings, MEAN, rtol=1e-6)
    again = encode.from_features(encode.features(IMAGES))
    np.testing.assert_allclose(again.embeddings, MEAN, rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [
        (lambda x, a, b: (a, b), None, r"returns 0 \[2, 3\], 1 \[2, 3\]: say by output="),
        (lambda x, a, b: {"t": x}, None, r"returns t \[2, 4, 4, 3\]: say by output="),
        (lambda x, a, b: {"a": a}, "b", r"output: .* nothing at 'b': a \[2, 3\]"),
        (lambda x, a, b: (a, b), 2, r"output: .* nothing at 2: 0 \[2, 3\], 1"),
        (lambda x, a, b: (a, b), -3, r"output: .* nothing at -3: 0 \[2, 3\], 1"),
        (lambda x, a, b: {"t": x}, "t", r"must return embeddings \[2, d\] .* got shape \(2, 4, 4"),
        (lambda x, a, b: None, None, "returns a NoneType without arrays"),
    ],
)
def test_what_is_no_embedding_is_said(form, output, message, unchecked):
    with pytest.raises(ValueError, match=message):
        fam_jax.capture(of(form), at="a", output=output)(IMAGES)
    with pytest.raises(TypeError, match="output: expected a key, an index, a path or a function"):
        fam_jax.capture(of(form), at="a", output=1.5)


class Norm(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 4, (1, 1), rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))

    def __call__(self, images):
        x = self.norm(self.conv(images))
        return {"pooled": x.mean((1, 2)), "tokens": x}


def test_an_output_goes_with_a_state_and_with_attention():
    """What an encoder does beside encoding: the state of batch norm, other layers to read."""
    model = Norm()
    enc, state = fam_jax.capture(model, at="conv", output="pooled").with_state(IMAGES)
    expected = model(IMAGES)
    np.testing.assert_allclose(enc.embeddings, expected["pooled"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["norm"]["mean"][...], model.norm.mean[...], rtol=1e-5)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, images):
        return linen.Conv(4, (1, 1), name="conv")(images).mean((1, 2))


def test_models_inside_jit_are_captured():
    """A compiled model hides no layer: an encoder is compiled itself."""
    model = Norm()
    model.eval()
    for compiled in (nnx.jit(model), jax.jit(model)):
        enc = fam_jax.capture(compiled, at="conv", output="pooled")(IMAGES)
        np.testing.assert_allclose(enc.embeddings, model(IMAGES)["pooled"], rtol=1e-5, atol=1e-6)
    variables = Linen().init(jax.random.key(0), IMAGES)
    expected = Linen().apply(variables, IMAGES)
    for compiled in (
        jax.jit(partial(Linen().apply, variables)),
        partial(jax.jit(Linen().apply), variables),
        jax.jit(Linen().bind(variables).__call__),
    ):
        enc = fam_jax.capture(compiled, at="conv")(IMAGES)
        np.testing.assert_allclose(enc.embeddings, expected, rtol=1e-5, atol=1e-6)


def test_a_module_that_a_function_hides_is_named():
    """The layers of a module inside a function are not seen; the module is, and how to take it."""
    model = Norm()
    model.eval()
    for fn in (lambda images: model(images)["pooled"], jax.jit(lambda x: model(x)["pooled"])):
        encode = fam_jax.capture(fn, at="conv")
        with pytest.raises(
            ValueError, match=r"this function calls 'model', a Norm, .*capture\(mod"
        ):
            encode(IMAGES)
        with pytest.raises(ValueError, match=r"this function calls 'model', a Norm"):
            encode.features(IMAGES)


def test_a_haiku_network_that_a_function_hides_is_named():
    """Transformed or only its `apply`: said with the call by which its layers are seen."""
    hk = pytest.importorskip("haiku", reason="needs haiku: pip install dm-haiku")
    net = hk.transform(lambda x: hk.Conv2D(4, 1, name="conv")(x).mean((1, 2)))
    params = net.init(jax.random.key(0), IMAGES)
    apply = net.apply
    for fn, call in (
        (
            lambda x: net.apply(params, None, x),
            r"'net', a Transformed, .*\(net\.apply, params",
        ),
        (lambda x: apply(params, None, x), r"'apply', a function, .*\(apply, params"),
    ):
        with pytest.raises(ValueError, match=call):
            fam_jax.capture(fn, at="conv")(IMAGES)
    enc = fam_jax.capture(partial(net.apply, params, None), at="conv")(IMAGES)
    np.testing.assert_allclose(enc.embeddings, net.apply(params, None, IMAGES), rtol=1e-6)
