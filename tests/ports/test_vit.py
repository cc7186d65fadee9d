"""Vision transformers: names, sizes, types, positions, and layers worth explaining."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import fam_jax
import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.catalog.vit import ENTRIES as ROWS
from pretrained_ports.checkpoint import CheckpointError
from pretrained_ports.convert import parameters, write
from pretrained_ports.positions import Resampling, resample, weights
from pretrained_ports.vit import VARIANTS, VisionTransformer

# One of every way of making the tokens, the positions, the blocks and the embedding.
KINDS = (
    *("vit-tiny-patch16", "deit-tiny-patch16-distilled", "dino-small-patch16"),
    *("dinov2-small", "dinov2-giant-reg4", "clip-vit-b32", "siglip-base-patch16"),
)
every = pytest.mark.parametrize("name", KINDS)
# Between them, every module.
most = pytest.mark.parametrize("name", KINDS[-3:])


def small(entry):
    """The row with two blocks of 24 channels and patches of 4 pixels, trained on 5 x 5 of them."""
    design = entry.build.args[0]
    hidden = 40 if design.hidden else 0
    design = design._replace(patch=4, dim=24, depth=2, heads=2, grid=5, hidden=hidden)
    return replace(
        entry,
        build=partial(VisionTransformer, design),
        layer="norm" if design.pool == "attention" else "blocks.1.norm1",
        preprocess=replace(entry.preprocess, size=(20, 20), resize=20),
    )


@pytest.fixture
def create(monkeypatch):
    """Creates a small model with random weights."""

    def one(name, **options):
        monkeypatch.setitem(ENTRIES, name, small(ROWS[name]))
        return pretrained_ports.create(name, **options)

    return one


def pictures(batch=2, size=(16, 28)):
    return jax.random.normal(jax.random.key(0), (batch, *size, 3))


def run(backbone, images):
    state, embed = pure(backbone)
    return jax.jit(embed)(state, images)


def pure(backbone):
    graph, state = nnx.split(backbone.model)
    return state, lambda state, images: nnx.merge(graph, state)(images)


@most
def test_vmap_under_jit_agrees_with_the_batch(create, name):
    state, embed = pure(create(name))
    images = pictures()
    expected = jax.jit(embed)(state, images)
    found = jax.jit(jax.vmap(lambda image: embed(state, image[None])[0]))(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@every
def test_gradients_reach_images_and_all_parameters(create, name):
    """A token or a position that was dropped would have none."""
    state, embed = pure(create(name))
    loss = jax.jit(jax.grad(lambda s, x: (embed(s, x) ** 3).sum(), argnums=(0, 1)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(loss(state, pictures())):
        assert jnp.isfinite(leaf).all(), path
        assert jnp.any(leaf != 0), path


@most
def test_computes_in_the_type_of_its_parameters(create, name):
    images = pictures()
    expected = np.asarray(run(create(name), images))
    for dtype, tolerance in (("bfloat16", 0.1), ("float64", 1e-4)):
        with jax.enable_x64(dtype == "float64"):
            backbone = create(name, param_dtype=dtype)
            found = run(backbone, images)
            assert found.dtype == dtype
            assert found.shape == expected.shape == (2, backbone.embedding_dim)
            error = np.abs(np.asarray(found, np.float32) - expected).max()
            assert error <= tolerance * np.abs(expected).max()


@every
def test_default_layer_has_maps_and_the_one_after_it_none(create, name):
    """The patches that leave the last block do not reach a class token: the maps would be zero."""
    backbone = create(name)
    explain = partial(fam_jax.explain_pairs, queries=pictures(), references=pictures() ** 2)
    encode = partial(fam_jax.capture, backbone.model, tokens=backbone.tokens)
    out = explain(encode(at=backbone.layer))
    assert out.valid.all()
    assert out.query_maps.shape == (2, 4, 7)
    for maps in (out.query_maps, out.reference_maps):
        assert jnp.isfinite(maps).all()
        assert jnp.any(maps != 0, axis=(1, 2)).all()
    if backbone.tokens.prefix:
        cotangent = jnp.ones((2, backbone.embedding_dim))
        assert not encode(at="blocks.1")(pictures()).pullback(cotangent).any()


@every
def test_in_front_of_the_last_norm_a_patch_has_no_share(create, name):
    """LN(a x) = LN(x), so <dz/dx, x> = 0: a decomposition there would show rounding errors.

    Up to the norm's epsilon beside the variance, hence large activations.
    """
    with jax.enable_x64(True):
        backbone = create(name, param_dtype="float64")
        encode = partial(fam_jax.capture, backbone.model, tokens=backbone.tokens)
        before = "blocks.0" if backbone.tokens.prefix else "blocks.1"
        images = pictures().astype("float64")
        shares = []
        for layer in (before, backbone.layer):
            enc = encode(at=layer)(images)
            if layer == before:
                enc = encode(at=layer).replay(images, 1e4 * enc.activations)
            G = enc.pullback(jnp.ones((2, backbone.embedding_dim)))
            parts = jnp.abs(G * enc.activations).sum(-1)
            shares.append(jnp.abs((G * enc.activations).sum(-1)) / parts)
        assert shares[0].max() < 1e-6
        assert shares[1].mean() > 1e-2


@pytest.mark.parametrize("name", ROWS)
def test_rows_name_the_layer_and_the_tokens(name):
    """What the last attention reads: the last block's, or that of the attention pooling."""
    entry = ROWS[name]
    design = entry.build.args[0]
    pooled = name.startswith("siglip")
    assert entry.layer == ("norm" if pooled else f"blocks.{design.depth - 1}.norm1")
    expected = {"DINOv2": 5 if "reg4" in name else 1, "SigLIP": 0}
    expected = expected.get(entry.family, 2 if "distilled" in name else 1)
    assert entry.tokens == (expected, None)
    assert entry.preprocess.size == (design.grid * design.patch,) * 2
    assert entry.hub or entry.release or not entry.licence


@pytest.mark.parametrize(
    ("name", "millions"),
    [  # without classifiers: Touvron et al. 2021; Oquab et al. 2024; Radford et al. 2021
        ("vit-tiny-patch16", 5.52),
        ("vit-large-patch16", 303.30),
        ("deit-small-patch16", 21.67),
        ("dinov2-small", 22.06),
        ("dinov2-giant", 1136.48),
        ("clip-vit-b32", 87.85),
        ("clip-vit-l14", 303.97),
        ("siglip-base-patch16", 92.88),
    ],
)
def test_sizes(name, millions):
    model = nnx.eval_shape(lambda: ROWS[name].build(rngs=nnx.Rngs(0)))
    count = sum(value.size for value in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_small_model_of_moco_v3_has_twelve_heads():
    assert VARIANTS["vit-small-patch16-moco-v3"].heads == 12
    assert VARIANTS["vit-small-patch16"].heads == 6


def test_modules_have_the_names_of_the_original(create):
    paths = {
        ".".join(map(str, path)) for path, _ in nnx.iter_modules(create("dinov2-small-reg4").model)
    }
    expected = {"patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.proj", "norm"}
    assert expected | {"blocks.1.norm1", "blocks.1.ls2", "blocks.1.mlp.fc1"} <= paths
    names = set(parameters(create("dinov2-small-reg4").model))
    assert {"cls_token", "reg_token", "pos_embed", "blocks.1.ls1.gamma"} <= names


def test_positions_are_kept_on_the_trained_grid_and_resampled_elsewhere():
    """Weights sum to 1, and the two axes are not mixed up."""
    positions = jax.random.normal(jax.random.key(0), (1, 25, 3))
    assert resample(positions, (5, 5), (5, 5), Resampling()) is positions
    for how in (Resampling(), Resampling(False), Resampling(False, 0.1)):
        for new in (1, 3, 5, 9, 40):
            np.testing.assert_allclose(weights(5, new, how).sum(1), 1, rtol=1e-12)
    transposed = positions.reshape(1, 5, 5, 3).swapaxes(1, 2).reshape(1, 25, 3)
    a = resample(positions, (5, 5), (3, 8), Resampling())
    b = resample(transposed, (5, 5), (8, 3), Resampling())
    b = b.reshape(8, 3, 3).swapaxes(0, 1).reshape(1, 24, 3)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((16, 30), "16 x 28 or 16 x 32"),
        ((2, 20), "4 x 20"),
        ((17, 19), "16 x 16 or 20 x 20"),
    ],
)
def test_other_sizes_than_whole_patches_are_refused(create, size, nearest):
    model = create("vit-tiny-patch16").model
    with pytest.raises(
        ValueError, match=f"multiples of 4, got .*nearest sizes? (is|are) {nearest}$"
    ):
        model(pictures(1, size))


def test_grey_pictures_are_refused(create):
    with pytest.raises(ValueError, match=r"\[b, H, W, 3\], got shape \[1, 16, 16, 1\]"):
        create("vit-tiny-patch16").model(jnp.ones((1, 16, 16, 1)))


def test_a_file_brings_its_own_grid(create, tmp_path):
    """Fine-tuned on larger pictures: positions, and the size that pictures get, follow the file."""
    design = small(ROWS["vit-tiny-patch16"]).build.args[0]._replace(grid=8)
    larger = VisionTransformer(design, rngs=nnx.Rngs(0))
    file = write(tmp_path / "a.safetensors", larger, {"architecture": "vit-tiny-patch16"})
    create("vit-tiny-patch16")
    backbone = pretrained_ports.load("vit-tiny-patch16", file)
    assert backbone.preprocess.size == (32, 32)
    assert backbone.preprocess.resize == 32
    assert backbone.model.variant == design
    np.testing.assert_array_equal(backbone.model.pos_embed[...], larger.pos_embed[...])


def test_a_distilled_file_does_not_fit_the_plain_model(create, tmp_path):
    distilled = create("deit-tiny-patch16-distilled").model
    file = write(tmp_path / "a.safetensors", distilled, {"architecture": "deit-tiny-distilled"})
    create("deit-tiny-patch16")
    with pytest.raises(CheckpointError, match="dist_token"):
        pretrained_ports.load("deit-tiny-patch16", file)


def test_a_bias_of_clips_projection_is_kept(create, tmp_path):
    """timm's files have one, OpenAI's have not."""
    plain = create("clip-vit-b32")
    arrays = {path: np.asarray(array) for path, array in parameters(plain.model).items()}
    save_file(arrays | {"head.bias": np.ones(512, np.float32)}, tmp_path / "a.safetensors")
    biased = pretrained_ports.load("clip-vit-b32", tmp_path / "a.safetensors")
    expected = run(plain, pictures()) + 1
    np.testing.assert_allclose(run(biased, pictures()), expected, rtol=1e-5, atol=1e-5)
