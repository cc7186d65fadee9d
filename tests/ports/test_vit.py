"""Vision transformers: names, sizes, types, positions, and layers worth explaining."""

from dataclasses import replace
from functools import cache, partial
from itertools import product

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
from pretrained_ports.checkpoints import CheckpointError, write
from pretrained_ports.models.positions import Resampling, resample, weights
from pretrained_ports.models.state import parameters
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS
from tests.close import assert_close
from tests.ports import network

# One of every way of making the tokens, the positions, the blocks and the embedding.
KINDS = (
    *("vit-tiny-patch16", "deit-tiny-patch16-distilled", "dino-small-patch16"),
    *("dinov2-small", "dinov2-giant-reg4", "clip-vit-b32", "siglip-base-patch16"),
)
# The patches and heads of these are another's: the others have all modules between them.
ALIKE = ("dino-small-patch16", "dinov2-small")
every = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ALIKE else []) for n in KINDS]
)
# Between them, every module.
most = pytest.mark.parametrize("name", KINDS[-3:])


def small(entry, depth=2):
    """The row with few blocks of 24 channels and patches of 4 pixels, trained on 5 x 5 of them."""
    design = entry.build.args[0]
    hidden = 40 if design.hidden else 0
    design = design._replace(patch=4, dim=24, depth=depth, heads=2, grid=5, hidden=hidden)
    return replace(
        entry,
        build=partial(VisionTransformer, design),
        layer="norm" if design.pool == "attention" else f"blocks.{depth - 1}.norm1",
        preprocess=replace(entry.preprocess, size=(20, 20), resize=20),
    )


@pytest.fixture(scope="module", autouse=True)
def small_rows():
    """Every model is a small one, in `create` and in `load`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in ROWS.items():
            patch.setitem(ENTRIES, name, small(entry))
        yield


create = cache(pretrained_ports.create)


def pictures(batch=2, size=(16, 28)):
    return np.random.default_rng(0).standard_normal((batch, *size, 3), np.float32)


def references(backbone, dtype):
    """Not of one value: what a norm gives has a constant sum, whose gradient is rounding only."""
    draw = np.random.default_rng(1).standard_normal((2, backbone.embedding_dim))
    return draw.astype(dtype)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *((fam_jax.le_grad, name) for name in KINDS if name not in ALIKE),
        *((fam_jax.chefer, name) for name in KINDS[-3:]),
        *(
            pytest.param(method, name, marks=pytest.mark.slow)
            for method, name in product((fam_jax.le_grad, fam_jax.chefer), KINDS)
            if name in (ALIKE if method is fam_jax.le_grad else KINDS[:-3])
        ),
    ],
)
def test_attention_explains_a_pair_of_every_kind(name, method):
    """With a class token, with others beside it, with none: on both sides, by the other image."""
    encode = fam_jax.capture(create(name))
    a, b, c = np.random.default_rng(0).standard_normal((3, 1, 16, 28, 3), np.float32)
    one, other = (fam_jax.explain_pairs(encode, a, r, method()) for r in (b, c))
    for out in (one, other):
        assert out.valid.all()
        for maps in (out.query_maps, out.reference_maps):
            assert maps.shape == (1, 4, 7)
            assert np.isfinite(maps).all()
            assert np.ptp(maps) > 0
    assert np.abs(one.query_maps - other.query_maps).max() > 1e-3 * np.abs(one.query_maps).max()


@pytest.mark.numerics
@every
def test_patches_are_a_map_before_they_are_tokens(name):
    """The backbone's tokens say where patches are, for layers that give tokens."""
    backbone = create(name)
    images = jnp.asarray(pictures())
    enc = fam_jax.capture(backbone, at="patch_embed")(images)
    assert_close(enc.activations, backbone.model.patch_embed(images), rtol=1e-6)
    G = enc.pullback(enc.embeddings)
    assert G.shape == enc.activations.shape == (2, 4, 7, enc.activations.shape[3])
    assert np.asarray(G).any((1, 2, 3)).all()


def test_attention_matrices_are_no_map_of_patches():
    backbone = create("vit-tiny-patch16")
    encode = fam_jax.capture(backbone, at="blocks.0.attn.attn_drop")
    with pytest.raises(ValueError, match="which is no map of the patches of 16 x 28 pixels"):
        encode(jnp.asarray(pictures()))


@most
def test_vmap_agrees_with_the_batch(x64, name):
    model = create(name, param_dtype="float64").model
    batch = network.embed(model, pictures())
    assert_close(network.one_by_one(model, pictures()), batch, rtol=1e-12)


@every
def test_gradients_reach_images_and_all_parameters(monkeypatch, name):
    """A token or a position that was dropped would have none."""
    monkeypatch.setitem(ENTRIES, name, small(ROWS[name], depth=1))
    model = pretrained_ports.create(name).model
    for path, leaf in network.gradients(model, pictures()).items():
        assert np.isfinite(leaf).all(), path
        assert leaf.any(), path


@pytest.mark.numerics
@most
def test_computes_in_the_type_of_its_parameters(name):
    expected = network.embed(create(name).model, pictures())
    # bfloat16 has 8 bits: 0.004 for each of the roundings, of which there are some dozens.
    for dtype, tolerance in (("bfloat16", 0.1), ("float64", 1e-4)):
        with jax.enable_x64(dtype == "float64"):
            backbone = create(name, param_dtype=dtype)
            given = network.embed(backbone.model, pictures())
        assert given.dtype == dtype
        assert given.shape == (2, backbone.embedding_dim)
        assert_close(given, expected, rtol=tolerance)


@jax.jit
def explained(encode, images, references):
    """Of two layers: FAM and the terms of a decomposition in the first, what reaches the other."""
    enc, after = encode(images)
    terms = enc.pullback(references) * enc.activations
    return fam_jax.fam()(enc, references), terms, after.pullback(references)


@every
def test_default_layer_has_maps_and_the_one_after_it_none(name):
    """The patches that leave the last block do not reach a class token: the maps would be zero."""
    backbone = create(name)
    layers = (backbone.layer, "blocks.1")
    encode = fam_jax.capture(backbone.model, at=layers, tokens=backbone.tokens)
    out = explained(encode, pictures(), references(backbone, np.float32))
    maps, terms, after = map(np.asarray, out)
    assert maps.shape == (2, 4, 7)
    assert np.isfinite(maps).all()
    assert maps.any(axis=(1, 2)).all()
    assert shares(terms).mean() > 1e-2
    assert after.any() == (backbone.tokens[0] == 0)


@jax.jit
def replayed(encode, images, activations, references):
    return encode.replay(images, activations).pullback(references)


@every
def test_in_front_of_the_last_norm_a_patch_has_no_share(x64, name):
    """LN(a x) = LN(x), so <dz/dx, x> = 0: a decomposition there would show rounding errors.

    For any x, up to the norm's epsilon beside the variance, hence large ones.
    """
    backbone = create(name, param_dtype="float64")
    layer = "blocks.0" if backbone.tokens[0] else "blocks.1"
    encode = fam_jax.capture(backbone.model, at=layer, tokens=backbone.tokens)
    A = 1e4 * np.random.default_rng(2).standard_normal((2, 4, 7, 24))
    images = pictures().astype("float64")
    G = replayed(encode, images, A, references(backbone, "float64"))
    assert shares(np.asarray(G) * A).max() < 1e-6


def shares(terms):
    """What is left of the terms of every patch when they are summed, of the sum of their sizes."""
    sizes = np.abs(terms).sum(-1)
    assert (sizes > 0).all()
    return np.abs(terms.sum(-1)) / sizes


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


def test_the_small_model_of_moco_v3_has_twelve_heads():
    assert VARIANTS["vit-small-patch16-moco-v3"].heads == 12
    assert VARIANTS["vit-small-patch16"].heads == 6


def test_modules_have_the_names_of_the_original():
    model = create("dinov2-small-reg4").model
    expected = {"patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.proj", "norm"}
    assert expected | {"blocks.1.norm1", "blocks.1.ls2", "blocks.1.mlp.fc1"} <= network.paths(model)
    names = set(parameters(model))
    assert {"cls_token", "reg_token", "pos_embed", "blocks.1.ls1.gamma"} <= names


def test_positions_are_kept_on_the_trained_grid_and_resampled_elsewhere(x64):
    """Weights sum to 1, and the two axes are not mixed up."""
    positions = jnp.asarray(np.random.default_rng(0).standard_normal((1, 25, 3)))
    assert resample(positions, (5, 5), (5, 5), Resampling()) is positions
    for how in (Resampling(), Resampling(False), Resampling(False, 0.1)):
        for new in (1, 3, 5, 9, 40):
            np.testing.assert_allclose(weights(5, new, how).sum(1), 1, rtol=1e-12)
    transposed = positions.reshape(1, 5, 5, 3).swapaxes(1, 2).reshape(1, 25, 3)
    a = resample(positions, (5, 5), (3, 8), Resampling())
    b = resample(transposed, (5, 5), (8, 3), Resampling())
    b = b.reshape(8, 3, 3).swapaxes(0, 1).reshape(1, 24, 3)
    assert_close(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((16, 30), "16 x 28 or 16 x 32"),
        ((2, 20), "4 x 20"),
        ((17, 19), "16 x 16 or 20 x 20"),
    ],
)
def test_other_sizes_than_whole_patches_are_refused(size, nearest):
    model = create("vit-tiny-patch16").model
    with pytest.raises(
        ValueError, match=f"multiples of 4, got .*nearest sizes? (is|are) {nearest}$"
    ):
        model(jnp.asarray(pictures(1, size)))


def test_grey_pictures_are_refused():
    with pytest.raises(ValueError, match=r"\[b, H, W, 3\], got shape \[1, 16, 16, 1\]"):
        create("vit-tiny-patch16").model(jnp.ones((1, 16, 16, 1)))


def test_a_file_brings_its_own_grid(tmp_path):
    """Fine-tuned on larger pictures: positions, and the size that pictures get, follow the file."""
    design = small(ROWS["vit-tiny-patch16"]).build.args[0]._replace(grid=8)
    larger = VisionTransformer(design, rngs=nnx.Rngs(0))
    file = write(tmp_path / "a.safetensors", larger, {"architecture": "vit-tiny-patch16"})
    backbone = pretrained_ports.load("vit-tiny-patch16", file)
    assert backbone.preprocess.size == (32, 32)
    assert backbone.preprocess.resize == 32
    assert backbone.model.variant == design
    np.testing.assert_array_equal(backbone.model.pos_embed[...], larger.pos_embed[...])


def test_a_distilled_file_does_not_fit_the_plain_model(tmp_path):
    distilled = create("deit-tiny-patch16-distilled").model
    file = write(tmp_path / "a.safetensors", distilled, {"architecture": "deit-tiny-distilled"})
    with pytest.raises(CheckpointError, match="dist_token"):
        pretrained_ports.load("deit-tiny-patch16", file)


@pytest.mark.numerics
def test_a_bias_of_clips_projection_is_kept(tmp_path):
    """timm's files have one, OpenAI's have not."""
    plain = create("clip-vit-b32")
    arrays = {path: np.asarray(array) for path, array in parameters(plain.model).items()}
    save_file(arrays | {"head.bias": np.ones(512, np.float32)}, tmp_path / "a.safetensors")
    biased = pretrained_ports.load("clip-vit-b32", tmp_path / "a.safetensors")
    expected = network.embed(plain.model, pictures()) + 1
    assert_close(network.embed(biased.model, pictures()), expected)
