"""Text towers of CLIP: sizes, types, gradients, devices, shares of tokens."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
import pretrained_ports
from pretrained_ports.models import clip_text
from pretrained_ports.models.state import parameters
from tests import toy_clip
from tests.close import assert_close
from tests.ports import network
from tests.programs import on_devices
from tests.toy_clip import END, IDS, SENTENCES, START

NAME = toy_clip.NAME


@pytest.mark.parametrize(
    ("variant", "millions", "dim"),
    [
        (clip_text.VARIANTS["base"], 63.43, 512),
        (clip_text.VARIANTS["large"], 123.65, 768),
    ],
    ids=["base", "large"],
)
def test_the_published_sizes(monkeypatch, variant, millions, dim):
    """Of the towers in OpenAI's files: all parameters less those of the image tower.

    Twelve blocks are one block more than eleven.
    """
    counts = []
    for depth in (1, 2):
        monkeypatch.setitem(clip_text.VARIANTS, "base", variant._replace(depth=depth))
        model = nnx.eval_shape(lambda: clip_text.TextTransformer("base", rngs=nnx.Rngs(0)))
        counts.append(sum(value.size for value in parameters(model).values()))
    count = counts[0] + (variant.depth - 1) * (counts[1] - counts[0])
    assert count / 1e6 == pytest.approx(millions, abs=0.01)
    out = nnx.eval_shape(lambda model: model(jnp.zeros((2, 77), "int32")), model)
    assert out.shape == (2, dim)


def test_only_what_stands_before_the_end_counts(x64, double):
    """Zeros or end tokens behind it, or nothing: OpenAI's, Hugging Face's and no padding."""
    expected = network.embed(double, IDS)
    padded, changed = IDS.copy(), IDS.copy()
    for row in range(3):
        end = IDS[row].argmax()
        padded[row, end + 1 :] = END if row else 7
        changed[row, end - 1] += 1
    assert_close(network.embed(double, padded), expected, rtol=1e-12)
    assert_close(network.embed(double, IDS[:1, :3])[0], expected[0], rtol=1e-12)
    others = network.embed(double, changed)
    assert (np.abs(others - expected).max(1) > 1e-4).all(), "but the sentence does"


def test_the_order_of_words_counts(model):
    pair = np.array([[START, 5, 6, END], [START, 6, 5, END]], np.int32)
    first, second = network.embed(model, pair)
    assert np.abs(first - second).max() > 1e-4


def test_jit_and_vmap_agree_with_the_plain_call(x64, double):
    plain = double(IDS)
    assert_close(network.embed(double, IDS), plain, rtol=1e-12)
    assert_close(network.one_by_one(double, IDS), plain, rtol=1e-12)


def test_gradients_reach_every_parameter(model):
    for path, leaf in network.gradients(model, IDS).items():
        assert np.isfinite(leaf).all(), path
        assert leaf.any(), path


def test_computes_in_the_type_of_its_parameters(model, double):
    expected = network.embed(model, IDS)
    half = pretrained_ports.create_text(NAME, param_dtype="bfloat16").model
    given = network.embed(half, IDS)
    assert given.dtype == "bfloat16"
    assert_close(given, expected, rtol=0.05)
    with jax.enable_x64(True):
        given = network.embed(double, IDS)
    assert given.dtype == "float64"
    assert_close(given, expected)


def test_sentences_on_eight_devices_need_no_communication(x64, double):
    """Embedded, and explained word by word."""
    graph, state = nnx.split(double)
    encode = fam_jax.capture(double, at="token_embedding", tokens=(0, None), gates="frozen")
    ids, pictures = np.tile(IDS, (3, 1))[:8], np.random.default_rng(1).normal(size=(8, 8))

    def both(state, encode, ids, pictures):
        out = fam_jax.explain(encode, ids, pictures, fam_jax.decomposition())
        return nnx.merge(graph, state)(ids), out.maps

    expected = jax.jit(both)(state, encode, ids, pictures)
    given = on_devices(both, ids, pictures, shared=(state, encode))
    for one, other in zip(given, expected, strict=True):
        assert one.sharding.spec[0] == "batch"
        assert_close(one, other, rtol=1e-10)


def test_bad_token_numbers(model, unchecked):
    for shape in ([12], [1, 0], [1, 13]):
        with pytest.raises(ValueError, match=rf"n from 1 to 12, got shape \[{str(shape)[1:-1]}\]"):
            model(jnp.zeros(shape, "int32"))
    with pytest.raises(ValueError, match="whole numbers, got float32"):
        model(jnp.zeros((1, 12)))
    beyond = network.embed(model, np.array([[START, END + 1]], np.int32))
    assert np.isnan(beyond).all(), "not another word's embedding"


def test_sentences_are_what_the_captured_tower_takes(tokenizer, unchecked):
    """With the layer, tokens and gates that it brings; numbers of tokens will do, too."""
    text = pretrained_ports.create_text(NAME, tokenizer=tokenizer)
    encode = fam_jax.capture(text)
    assert (encode.at, encode.gates) == (text.layer, "frozen")
    enc = encode(SENTENCES)
    assert enc.activations.shape == (3, 12, 16)
    assert_close(enc.embeddings, text(SENTENCES))
    np.testing.assert_array_equal(encode(text.tokenize(SENTENCES)).embeddings, enc.embeddings)
    with pytest.raises(TypeError, match="sentence: expected a string, got int"):
        encode([3])


@pytest.mark.numerics
def test_shares_of_tokens_and_the_rest_are_the_score(x64, double):
    """At what each token brings in, the rest is the part of positions and biases: none without."""
    pictures = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8)))

    def maps(model):
        encode = fam_jax.capture(model, at="token_embedding", gates="frozen")
        return fam_jax.explain(encode, IDS, pictures, fam_jax.decomposition())

    out = maps(double)
    assert (np.abs(out.scores - out.maps.sum(1)) > 1e-3).all()
    for row, ids in zip(out.maps, IDS, strict=True):
        assert not row[ids.argmax() + 1 :].any(), "no token sees those after it"
        assert (row[: ids.argmax() + 1] != 0).all()
    graph, state = nnx.split(double)
    unbiased = jax.tree.map_with_path(
        lambda path, x: 0 * x if re.search("bias|positional", jax.tree_util.keystr(path)) else x,
        state,
    )
    out = maps(nnx.merge(graph, unbiased))
    assert_close(out.maps.sum(1), out.scores, np.abs(out.maps).sum(1), rtol=1e-10)


def test_sentences_into_embeddings(tokenizer):
    text = pretrained_ports.create_text(NAME, seed=1, tokenizer=tokenizer)
    z = text(SENTENCES)
    assert z.shape == (3, text.embedding_dim) == (3, 8)
    assert_close(z, network.embed(text.model, text.tokenize(SENTENCES)))
    with pytest.raises(TypeError, match="a list of strings, got 'a dog'"):
        text.tokenize("a dog")
