"""The backbones of pretrained_ports under the whole of fam_jax, as a user combines them."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
import pretrained_ports
from pretrained_ports.models import convnext
from tests.close import assert_close
from tests.ports import network
from tests.programs import on_devices

BACKBONES = {"tiny": (32, 48), "cifar-resnet20": (32, 32), "conv4": (48, 48)}
every = pytest.mark.parametrize("name", BACKBONES)


create = cache(pretrained_ports.create)


def case(name, batch, dtype="float32"):
    backbone = create(name, param_dtype=dtype)
    encode = fam_jax.capture(backbone)
    x, y = np.random.default_rng(0).standard_normal((2, batch, *BACKBONES[name], 3), dtype)
    return backbone, encode, x, y


@every
def test_default_layers_give_maps_that_decompose_the_cosine(x64, name):
    """Every head is linear in the default layer, so the maps sum to the score."""
    backbone, encode, x, y = case(name, 2, "float64")
    out = fam_jax.explain_pairs(encode, x, y, fam_jax.decomposition())
    assert out.valid.all()
    for maps in map(np.asarray, (out.query_maps, out.reference_maps)):
        assert_close(maps.sum((1, 2)), out.scores, relative_to=np.abs(maps).sum(), rtol=1e-12)
    assert_close(encode(x).embeddings, network.embed(backbone.model, x), rtol=1e-12)


def test_behind_a_norm_of_the_mean_maps_sum_to_the_score(x64, monkeypatch):
    """ConvNeXt's default layer is linear; before the norm, which ignores lengths, nothing is."""
    monkeypatch.setitem(convnext.VARIANTS, "tiny", (96, (1, 1, 1, 1)))
    backbone = pretrained_ports.create("convnext-tiny", param_dtype="float64")
    norm = backbone.model.head.norm
    random = np.random.default_rng(0)
    norm.scale[...], norm.bias[...] = random.uniform(0.5, 1, (2, 768))
    encode = fam_jax.capture(backbone.model, at=(backbone.layer, "stages.3"))
    run = jax.jit(lambda encode, images: encode(images))
    after, before = run(encode, random.standard_normal((2, 64, 96, 3)))
    assert after.activations.shape == before.activations.shape == (2, 2, 3, 768)
    assert_close(after.embeddings, after.activations.mean((1, 2)), rtol=1e-12)
    mean = before.activations.mean((1, 2), keepdims=True)
    assert_close(after.embeddings, norm(mean)[:, 0, 0], rtol=1e-12)
    others = after.embeddings[::-1]
    lengths = jnp.linalg.norm(others, axis=-1)
    cosines = (others * others[::-1]).sum(-1) / (lengths * lengths[::-1])
    maps, lost = (fam_jax.decomposition()(enc, others).sum((1, 2)) for enc in (after, before))
    assert_close(maps, cosines, rtol=1e-12)
    assert float(jnp.abs(lost).max()) < 1e-3


@jax.jit
def explained(encode, images):
    """FAM at every layer, of every image and the other."""
    encodings = encode(images)
    return [fam_jax.fam()(enc, enc.embeddings[::-1]) for enc in encodings]


@every
def test_every_stage_can_be_explained(name):
    backbone, _, x, _ = case(name, 2)
    stages = tuple(n for n in vars(backbone.model) if n.startswith(("layer", "block")))
    assert len(stages) >= 3
    for maps in explained(fam_jax.capture(backbone.model, at=stages), x):
        assert np.isfinite(maps).all()
        assert np.asarray(maps).any((1, 2)).all()


@every
def test_sharded_pairs_need_no_communication(name):
    _, encode, x, y = case(name, 16)
    out = on_devices(lambda *args: fam_jax.explain_pairs(*args), x, y, shared=(encode,))
    assert out.query_maps.sharding.spec[0] == "batch"


def test_a_preprocessed_picture_goes_straight_in():
    backbone = pretrained_ports.load("tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (200, 150, 3), np.uint8)
    inputs = jnp.asarray(backbone.preprocess(pixels))[None]
    encode = fam_jax.capture(backbone)
    assert encode(inputs).embeddings.shape == (1, backbone.embedding_dim)
