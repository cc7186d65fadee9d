"""The backbones of pretrained_ports under the whole of fam_jax, as a user combines them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
import pretrained_ports

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
BACKBONES = {"tiny": (32, 48), "cifar-resnet20": (32, 32), "conv4": (48, 48)}
every = pytest.mark.parametrize("name", BACKBONES)


def case(name, batch=8):
    backbone = pretrained_ports.create(name)
    encode = fam_jax.capture(backbone.model, at=backbone.layer, tokens=backbone.tokens)
    x, y = jax.random.normal(jax.random.key(0), (2, batch, *BACKBONES[name], 3))
    return backbone, encode, x, y


@every
def test_default_layers_give_maps_that_decompose_the_cosine(name):
    """Every head is linear in the default layer, so the maps sum to the score."""
    backbone, encode, x, y = case(name, 2)
    out = fam_jax.explain_pairs(encode, x, y, fam_jax.decomposition())
    assert out.valid.all()
    for maps in (out.query_maps, out.reference_maps):
        np.testing.assert_allclose(maps.sum((1, 2)), out.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encode(x).embeddings, backbone.model(x), rtol=1e-4, atol=1e-5)


@every
def test_every_stage_can_be_explained(name):
    backbone, _, x, y = case(name, 1)
    stages = [n for n in vars(backbone.model) if n.startswith(("layer", "block"))]
    assert len(stages) >= 3
    for stage in stages:
        out = fam_jax.explain_pairs(fam_jax.capture(backbone.model, at=stage), x, y)
        assert out.query_maps.any()
        assert out.valid.all()


@every
def test_sharded_pairs_need_no_communication(name):
    _, encode, x, y = case(name, 16)
    mesh = jax.make_mesh((8,), ("batch",))
    shard, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("batch",), ()))
    x, y = jax.device_put((x, y), shard)
    encode = jax.device_put(encode, everywhere)
    run = jax.jit(lambda encode, x, y: fam_jax.explain_pairs(encode, x, y))
    text = run.lower(encode, x, y).compile().as_text()
    assert not [collective for collective in COLLECTIVES if collective in text]


def test_a_preprocessed_picture_goes_straight_in():
    backbone = pretrained_ports.load("tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (200, 150, 3), np.uint8)
    inputs = jnp.asarray(backbone.preprocess(pixels))[None]
    encode = fam_jax.capture(backbone.model, at=backbone.layer)
    assert encode(inputs).embeddings.shape == (1, backbone.embedding_dim)
