"""Attention with its matrices and without them, and the exact GELU."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from fam_jax._core.programs import equations
from pretrained_ports.models.layers import Stage
from pretrained_ports.models.transformer import Attention, gelu
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS
from tests.close import assert_close

pytestmark = pytest.mark.numerics

TOKENS = np.random.default_rng(0).normal(size=(3, 5, 8))
MATRICES = (3, 2, 5, 5)
VARIANT = VARIANTS["vit-tiny-patch16"]._replace(patch=4, dim=24, depth=2, heads=2, grid=3)
WATCHED = ("blocks.0.attn.attn_drop", "blocks.1.attn.attn_drop")
DIGITS = {"float64": 1e-14, "float32": 1e-6, "bfloat16": 0}  # 16 bits take the matrices anyway


class Watched(Stage):
    """As a tap makes it: a subclass."""


def attention(dtype, watched, **options):
    """A layer whose softmax is far from flat."""
    layer = Attention(8, 2, rngs=nnx.Rngs(0), param_dtype=dtype, **options)
    for part in (layer.qkv, layer.proj):
        part.kernel[...] *= 40
    if watched:
        layer.attn_drop = Watched()
    return layer


def with_and_without(dtype, **options):
    return (attention(dtype, watched, **options) for watched in (True, False))


@pytest.mark.double
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", DIGITS)
def test_the_output_is_the_same_without_the_matrices(dtype, causal):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(TOKENS, dtype)
        whole, without = with_and_without(dtype, causal=causal)
        assert without(x).dtype == dtype
        assert_close(without(x), whole(x), rtol=DIGITS[dtype])


def test_large_scores_do_not_overflow():
    whole, without = with_and_without("float32")
    x = 100 * jnp.asarray(TOKENS, "float32")
    assert_close(without(x), whole(x), rtol=1e-5)


@pytest.mark.double
def test_compiled_mapped_and_differentiated(x64):
    x = jnp.asarray(TOKENS)
    whole, without = with_and_without("float64")
    mapped = jax.jit(jax.vmap(lambda x: without(x[None])[0]))
    assert_close(mapped(x), whole(x), rtol=1e-14)
    slopes = [
        jax.grad(lambda x, layer=layer: (layer(x) ** 2).sum())(x) for layer in (whole, without)
    ]
    assert_close(slopes[1], slopes[0], rtol=1e-13)


def test_matrices_are_made_where_they_are_watched():
    """Without: no division of n x n weights, which is the last step of a softmax."""

    def divided(layer):
        program = jax.make_jaxpr(layer)(jnp.asarray(TOKENS, "float32"))
        return [
            eqn.outvars[0].aval.shape for eqn in equations(program) if eqn.primitive.name == "div"
        ]

    whole, without = with_and_without("float32")
    assert MATRICES in divided(whole)
    assert MATRICES not in divided(without)


def test_a_layer_in_the_place_of_the_dropout_is_applied():
    layer = attention("float32", watched=False)
    x = jnp.asarray(TOKENS, "float32")
    layer.attn_drop.append(lambda A: 0 * A)
    assert_close(layer(x), jnp.broadcast_to(layer.proj.bias[...], x.shape))


@pytest.mark.double
@pytest.mark.parametrize("gates", [pytest.param("free", marks=pytest.mark.slow), "frozen"])
def test_maps_are_the_same_whether_matrices_are_watched(gates, x64):
    model = VisionTransformer(VARIANT, rngs=nnx.Rngs(0), param_dtype="float64")
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 12, 12, 3)))
    run = partial(fam_jax.capture, model, gates=gates)
    alone = run(at=("patch_embed",)).watch(images)
    among = run(at=("patch_embed", *WATCHED)).watch(images)
    assert among.values[1].shape == (2, 2, 10, 10)
    assert_close(alone.embeddings, among.embeddings, rtol=1e-13)
    (expected, *_), (actual,) = (out.pullback(alone.embeddings) for out in (among, alone))
    assert_close(actual, expected, rtol=1e-12)


@pytest.mark.double
@pytest.mark.parametrize(("dtype", "digits"), [("float64", 1e-15), ("float32", 1e-7)])
def test_gelu_is_exact(dtype, digits):
    with jax.enable_x64(dtype == "float64"):
        x = np.linspace(-6, 6, 25)
        expected = [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x]
        assert gelu(jnp.asarray(x, dtype)).dtype == dtype
        assert_close(gelu(jnp.asarray(x, dtype)), expected, rtol=digits)


def test_gelu_of_sixteen_bits_is_rounded_once():
    x = jnp.linspace(-6, 6, 25, dtype="bfloat16")
    np.testing.assert_array_equal(gelu(x), gelu(x.astype("float32")).astype("bfloat16"))
