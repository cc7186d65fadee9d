"""What an object says of itself: one line, with names, layers and shapes and without parameters."""

import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.tree_util import Partial

import fam_jax
import pretrained_ports
from fam_jax._core.brief import brief, legible, message
from fam_jax.evaluate import Batch
from fam_jax.io.photographs import Photograph
from fam_jax.methods.method import as_method
from fam_jax.methods.registry import entry
from fam_jax.store import Row
from pretrained_ports.checkpoints import read
from pretrained_ports.classifier import Classifier

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
BACKGROUND = np.ones((5, 128), np.float32)
BACKBONE = pretrained_ports.load("tiny")


def pooled(images, scale=1.0):
    return fam_jax.tap(images * scale, "scaled").mean((1, 2))


def mine(enc, references, power=1):
    return (enc.activations**power).mean(-1)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, images, train=False):
        return linen.Conv(4, (3, 3))(images).mean((1, 2))


class Equinox(eqx.Module):
    conv: eqx.nn.Conv2d

    def __call__(self, image):
        return self.conv(image).mean((1, 2))


class Nnx(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))

    def __call__(self, images):
        return self.embed(images)

    def embed(self, images):
        return self.conv(images).mean((1, 2))


def of_linen(**keywords):
    variables = Linen().init(jax.random.key(0), IMAGES)
    return functools.partial(Linen().apply, variables, **keywords)


def of_equinox():
    return eqx.filter_vmap(Equinox(eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0))))


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (BACKBONE, {}, "Encoder(Tiny, at='layer3', layout='NHWC')"),
        (
            BACKBONE.model,
            {"at": ("layer1.0", "layer3")},
            "LayersEncoder(Tiny, at=('layer1.0', 'layer3'), layout='NHWC')",
        ),
        (Nnx().embed, {"at": "conv"}, "Encoder(Nnx.embed, at='conv', layout='NHWC')"),
        (pooled, {"at": "scaled"}, "Encoder(pooled, at='scaled', layout='NHWC')"),
        (
            functools.partial(pooled, scale=2.0),
            {"at": "scaled"},
            "Encoder(pooled(scale=2.0), at='scaled', layout='NHWC')",
        ),
        (of_linen(), {"at": "Conv_0"}, "Encoder(Linen, at='Conv_0', layout='NHWC')"),
        (
            of_linen(train=False),
            {"at": "Conv_0"},
            "Encoder(Linen(train=False), at='Conv_0', layout='NHWC')",
        ),
        (
            of_equinox(),
            {"at": "conv", "layout": "NCHW"},
            "Encoder(Equinox, at='conv', layout='NCHW')",
        ),
    ],
)
def test_an_encoder_names_its_model_its_layer_and_the_layout(model, options, said):
    encode = fam_jax.capture(model, **options)
    assert repr(encode) == said
    assert repr(jax.tree.map(lambda x: None, encode)) == said  # whatever is in the arrays' place


def test_an_encoder_of_two_functions_names_both_and_one_of_tokens_its_grid():
    double = fam_jax.encoder(jnp.tanh, pooled)
    assert repr(double) == "Encoder(tanh -> pooled, at='activations', layout='NHWC')"
    encode = fam_jax.capture(pretrained_ports.create("vit-mini-patch8"))
    grid = "tokens=TokenGrid(prefix=1, shape=None)"
    assert repr(encode) == f"Encoder(VisionTransformer, at='blocks.3.norm1', layout='NHWC', {grid})"


def public_objects():
    encode = fam_jax.capture(BACKBONE)
    enc = encode(IMAGES)
    yield from (BACKBONE, BACKBONE.report, BACKBONE.open(np.zeros((300, 40, 3), np.uint8)))
    yield from (enc, encode.features(IMAGES), fam_jax.capture(BACKBONE.model, ("bn1", "layer3")))
    yield fam_jax.capture(BACKBONE.model, at=("layer2", "layer3")).watch(jnp.asarray(IMAGES))
    for name in fam_jax.methods.names():
        background = BACKGROUND if entry(name).background == "needed" else None
        yield fam_jax.methods.make(name, fam_jax.cosine, background)
    yield from (fam_jax.cosine, fam_jax.margin(fam_jax.dot, BACKGROUND), enc.activations.shape)
    yield from (fam_jax.explain(encode, IMAGES, enc.embeddings), fam_jax.concepts(enc, enc, k=2))
    yield fam_jax.explain_pairs(encode, IMAGES, IMAGES)
    yield fam_jax.neighbours(enc.embeddings, BACKGROUND, k=2)
    yield Batch.of(IMAGES, BACKGROUND[:2], BACKGROUND)
    yield from (Classifier(BACKGROUND, BACKGROUND[0]), Photograph("a", np.zeros((9, 9, 3), "u1")))
    yield Row(0, "0", None, "a", "b", 0.5, query_map=np.ones((9, 9), np.float32))


def test_no_public_object_floods_a_screen():
    said = [repr(value) for value in public_objects()]
    assert [text for text in said if "\n" in text or len(text) > 120] == []
    assert len(set(said)) > 30


def test_arrays_are_types_and_shapes():
    margin = fam_jax.margin(fam_jax.cosine, BACKGROUND)
    assert repr(margin) == "Margin(similarity=Cosine(), background=float32[5, 128])"
    maps = fam_jax.explain(fam_jax.encoder(jnp.tanh, pooled), IMAGES, jnp.ones((2, 3)))
    shapes = "maps=float32[2, 32, 32], scores=float32[2], valid=bool[2]"
    assert repr(maps) == f"Explanation({shapes})"


def test_a_checkpoint_counts_its_tensors():
    checkpoint = read(BACKBONE.report.source)
    assert repr(checkpoint).endswith("tiny.safetensors', 45 tensors)")


def test_methods_with_other_options_say_so_at_any_length():
    """A store's settings hold these words: two methods with the same ones are the same job."""
    long = fam_jax.capture(functools.partial(pooled, scale=tuple(range(200))), at="scaled")
    assert len(repr(long)) <= 120 < len(brief(long))
    assert repr(long).endswith("...")
    pairs = [
        (fam_jax.fam(), fam_jax.fam(normalize="relu")),
        (fam_jax.rise(key=jax.random.key(0)), fam_jax.rise(key=jax.random.key(0), keep=0.4)),
        (as_method(mine), as_method(Partial(mine, power=2))),
        (fam_jax.chefer(), fam_jax.chefer(layers=("a", "b"))),
        (fam_jax.fam(), fam_jax.fam(fam_jax.dot)),
    ]
    for one, other in pairs:
        assert brief(one) != brief(other)
    assert " at 0x" not in "".join(brief(method) for pair in pairs for method in pair)


def test_names_from_outside_are_one_line_of_at_most_200_letters():
    assert legible(Path("猫 é.png")) == "猫 é.png"
    assert legible("a\nb\x1b[31m\u202e\udce9\x85.png") == r"a\nb\x1b[31m\u202e\udce9\x85.png"
    long = legible(f"{'a' * 300}/{'b' * 300}.png")
    assert len(long) == 200
    assert long.startswith("aaa")
    assert long.endswith("bbb.png")
    assert legible("c" * 200) == "c" * 200
    assert message(ValueError("two\n  lines\x1b[0m")) == r"two lines\x1b[0m"
    assert message(MemoryError()) == "MemoryError"
