"""Models of other packages as they are, in small configurations; each needs its package."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests.close import assert_close

pytestmark = pytest.mark.numerics

TOKENS = fam_jax.TokenGrid(prefix=1)
IMAGES = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))


def package(name):
    return pytest.importorskip(name, reason=f"needs the package {name}")


@pytest.fixture
def free():
    """These packages mix types and ranks, and warn of their own."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def check(encode, space, channels, outputs, whole):
    """Of these shapes; the embedding is what the model gives, and the map depends on the head."""
    enc = encode(IMAGES)
    assert enc.activations.shape == (2, *space, channels)
    assert_close(enc.embeddings, whole, relative_to=np.abs(whole).max())
    assert enc.embeddings.shape == (2, outputs)
    maps = fam_jax.decomposition()(enc, enc.embeddings[::-1])
    assert maps.shape == (2, *space)
    assert np.isfinite(maps).all()
    assert np.any(maps)
    return enc


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_equimo(free):
    """One image [c, h, w] at a time, by `eqx.filter_vmap`."""
    eqx, models = package("equinox"), package("equimo.models")
    key = jax.random.PRNGKey(0)
    vit = models.VisionTransformer(
        *(32, 3, 32, 8, 2, [2]), reg_tokens=0, num_classes=0, global_pool="token", key=key
    )
    net = eqx.nn.inference_mode(vit)
    encode = fam_jax.capture(
        eqx.filter_vmap(net), at="blocks.0.blocks.1.prenorm", layout="NCHW", tokens=TOKENS
    )
    whole = jax.vmap(net)(jnp.moveaxis(IMAGES, -1, 1))
    check(encode, (4, 4), 32, 32, whole)
    net = eqx.nn.inference_mode(
        models.ConvNeXt(3, dims=[16, 32], depths=[1, 1], num_classes=6, key=key)
    )
    encode = fam_jax.capture(eqx.filter_vmap(net), at="blocks.1", layout="NCHW")
    check(encode, (4, 4), 32, 6, jax.vmap(net)(jnp.moveaxis(IMAGES, -1, 1)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_keras_hub(free):
    """Backbones give a map or tokens, `output` makes the embedding of them; tasks give logits."""
    models = package("keras_hub").models
    vit = models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    )
    encode = fam_jax.capture(
        vit,
        at="vit_encoder.transformer_block_2.ln_1",
        tokens=TOKENS,
        output=lambda tokens: tokens[:, 0],
    )
    check(encode, (4, 4), 32, 32, vit(IMAGES)[:, 0])
    resnet = models.ResNetBackbone(
        *([64], [7], [64, 64], [1, 1], [1, 2], "basic_block"), image_shape=(None, None, 3)
    )
    encode = fam_jax.capture(
        resnet, at="stack1_block0_out", output=lambda activations: activations.mean((1, 2))
    )
    check(encode, (4, 4), 64, 64, resnet(IMAGES).mean((1, 2)))
    task = models.ResNetImageClassifier(backbone=resnet, num_classes=5, pooling="avg")
    encode = fam_jax.capture(task, at=f"{resnet.name}.stack1_block0_out")
    check(encode, (4, 4), 64, 5, task(IMAGES))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_transformers(free):
    """Flax classes, which transformers 5 has no more: their `.module`, a module of flax.linen."""
    transformers = package("transformers")
    if not hasattr(transformers, "FlaxViTModel"):
        pytest.skip("needs transformers<5")
    config = transformers.ViTConfig(
        *(32, 2, 2, 64), image_size=32, patch_size=8, attention_probs_dropout_prob=0
    )
    vit = transformers.FlaxViTModel(config)
    encode = fam_jax.capture(
        partial(vit.module.apply, {"params": vit.params}),
        at="encoder.layer.1.layernorm_before",
        tokens=TOKENS,
        output="pooler_output",
    )
    with pytest.raises(ValueError, match="calls 'module', a FlaxViTModule, whose layers are seen"):
        fam_jax.capture(vit, at="encoder.layer.1", layout="NCHW")(IMAGES)
    check(encode, (4, 4), 32, 32, vit(jnp.moveaxis(IMAGES, -1, 1)).pooler_output)
