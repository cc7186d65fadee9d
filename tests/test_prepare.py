"""Pictures of 8 bits and floats: what an encoder of a backbone takes, and what it warns of."""

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fam_jax
import pretrained_ports

BACKBONE = pretrained_ports.create("cifar-resnet20")
ENCODE = fam_jax.capture(BACKBONE)
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (3, 40, 56, 3), np.uint8)
READY = np.stack([BACKBONE.preprocess(picture) for picture in PICTURES])


@pytest.fixture(autouse=True)
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.mark.parametrize(
    "pictures",
    [
        PICTURES,
        jnp.asarray(PICTURES),
        list(PICTURES),
        [Image.fromarray(picture) for picture in PICTURES],
        [BACKBONE.open(picture) for picture in PICTURES],
    ],
    ids=["numpy", "jax", "list", "PIL", "opened"],
)
def test_pictures_are_prepared_as_the_backbone_does(pictures):
    expected = ENCODE(READY)
    np.testing.assert_array_equal(ENCODE(pictures).embeddings, expected.embeddings)
    several = fam_jax.capture(BACKBONE, at=("layer2", "layer3"))(pictures)
    np.testing.assert_array_equal(several[1].activations, expected.activations)


def test_every_entry_point_takes_pictures_of_any_sizes():
    pictures = [PICTURES[0], PICTURES[1][:, :33], Image.fromarray(PICTURES[2]).resize((99, 44))]
    ready = np.stack([BACKBONE.preprocess(picture) for picture in pictures])
    r = ENCODE(READY).embeddings
    same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)  # noqa: E731
    same(fam_jax.explain(ENCODE, pictures, r), fam_jax.explain(ENCODE, ready, r))
    same(
        fam_jax.explain_pairs(ENCODE, pictures, PICTURES),
        fam_jax.explain_pairs(ENCODE, ready, READY),
    )
    same(fam_jax.explain_all(ENCODE, pictures, PICTURES), fam_jax.explain_all(ENCODE, ready, READY))
    same(fam_jax.explain_all(ENCODE, pictures, r), fam_jax.explain_all(ENCODE, ready, r))
    same(ENCODE.features(pictures), ENCODE.features(ready))


@pytest.mark.parametrize("scale", [1, 255])
def test_floats_that_were_not_normalised_warn(scale):
    floats = scale * np.clip(RNG.random((2, 32, 32, 3), np.float32) * 1.1 - 0.05, 0, 1)
    with pytest.warns(
        UserWarning, match=r"images: values from 0 to .*normalised to -2\.1. \.\. 2\.6"
    ):
        ENCODE(floats)
    with pytest.warns(UserWarning, match="queries: values from 0"):
        fam_jax.explain_pairs(ENCODE, floats, READY[:2])


def test_the_warning_is_shown_once_for_a_place():
    floats = RNG.random((2, 32, 32, 3), np.float32)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for _ in range(3):
            ENCODE(floats)
    assert len(shown) == 1


@pytest.mark.parametrize("level", [0, 127, 255])
def test_pictures_of_one_colour_do_not_warn(level):
    ENCODE(np.full((1, 32, 32, 3), level, np.uint8))
    ENCODE(BACKBONE.preprocess(np.full((32, 32, 3), level, np.uint8))[None])


def test_inside_a_program_floats_pass_and_pictures_are_refused():
    z = jax.jit(lambda images: ENCODE(images).embeddings)(READY)
    np.testing.assert_allclose(z, ENCODE(READY).embeddings, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="images: pictures are prepared outside of jit"):
        jax.jit(lambda images: ENCODE(images).embeddings)(PICTURES)


def test_a_model_alone_refuses_pictures_and_says_why():
    encode = fam_jax.capture(BACKBONE.model, at="layer3")
    with pytest.raises(TypeError, match=r"images: .*got uint8: capture\(backbone\) prep"):
        encode(PICTURES)
    with pytest.raises(ValueError, match="queries: no pictures were given"):
        fam_jax.explain_pairs(ENCODE, [], [])


def test_the_preprocessing_is_no_leaf_and_tells_programs_apart():
    other = fam_jax.capture(replace(BACKBONE, preprocess=replace(BACKBONE.preprocess, fit="pad")))
    assert jax.tree.structure(other) != jax.tree.structure(ENCODE)
    assert len(jax.tree.leaves(other)) == len(jax.tree.leaves(ENCODE))
    assert float(jnp.abs(other(PICTURES).embeddings - ENCODE(PICTURES).embeddings).max()) > 0


def test_another_networks_own_preparation_needs_to_be_a_function_only():
    class Mine:
        model, layer, tokens = BACKBONE.model, "layer3", None

        @staticmethod
        def preprocess(picture):
            return np.float32(picture) / 255

    encode = fam_jax.capture(Mine())
    pictures = PICTURES[:, :32, :32]
    expected = fam_jax.capture(BACKBONE.model, at="layer3")(np.float32(pictures) / 255)
    np.testing.assert_array_equal(encode(pictures).embeddings, expected.embeddings)
    np.testing.assert_array_equal(
        encode(np.float32(pictures) / 255).embeddings, expected.embeddings
    )


def test_floats_on_several_devices_are_not_looked_at():
    """Their smallest and largest would be known by communication only."""
    floats = np.tile(RNG.random((1, 32, 32, 3), np.float32), (8, 1, 1, 1))
    with pytest.warns(UserWarning, match="images: values from 0"):
        ENCODE(jnp.asarray(floats))
    mesh = jax.make_mesh((8,), ("batch",))
    sharded = jax.device_put(floats, jax.NamedSharding(mesh, jax.P("batch")))
    ENCODE(sharded)


def test_channels_first_are_named_by_the_network():
    with pytest.raises(ValueError, match=r"must be \[b, H, W, 3\], got shape \[3, 3, 40, 56\]"):
        ENCODE(np.moveaxis(PICTURES, 3, 1).astype(np.float32))
