"""`TokenGrid`: which tokens are the image's patches, and how they lie on it."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests.close import assert_close
from tests.programs import counted


def patches(images, size=4, prefix=2):
    """The mean of each patch as a token [b, n, c], after `prefix` tokens of ones."""
    b, h, w, c = images.shape
    rows, columns = h // size, w // size
    cut = images[:, : rows * size, : columns * size]
    means = cut.reshape(b, rows, size, columns, size, c).mean((2, 4))
    tokens = means.reshape(b, rows * columns, c)
    return jnp.pad(tokens, ((0, 0), (prefix, 0), (0, 0)), constant_values=1)


def embed(images):
    return fam_jax.tap(patches(images), "tokens").mean(1)


@pytest.fixture
def images():
    images = np.random.default_rng(0).normal(size=(2, 16, 26, 3))
    return jnp.asarray(images, jnp.float32)  # 26 is no multiple of 4


@pytest.mark.parametrize(("tokens", "prefix"), [(197, 1), (261, 5), (5, 1), (1, 0)])
def test_square_grids_are_found_from_the_token_count(tokens, prefix):
    side = {197: 14, 261: 16, 5: 2, 1: 1}[tokens]
    assert fam_jax.TokenGrid(prefix=prefix).grid(tokens) == (side, side)


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
@pytest.mark.parametrize("image", [(224, 224), (224, 320), (320, 224), (97, 211), (64, 640)])
def test_grids_follow_the_image_for_every_patch_size(image, patch):
    rows, columns = image[0] // patch, image[1] // patch
    grid = fam_jax.TokenGrid(prefix=1)
    assert grid.grid(1 + rows * columns, image=image) == (rows, columns)


def test_overlapping_patches_of_a_square_image_make_a_square():
    assert fam_jax.TokenGrid().grid(15 * 15, image=(224, 224)) == (15, 15)  # no 224 // p is 15


@pytest.mark.parametrize("image", [(224, 224), (224, 320), (336, 224)])
@pytest.mark.parametrize("wrong", [-4, -2, -1, 1, 2, 4])
def test_a_wrong_prefix_is_refused(image, wrong):
    tokens = 5 + image[0] // 16 * (image[1] // 16)
    message = rf"{tokens} tokens less a prefix of {5 + wrong} fill no grid on images of {image[0]}"
    with pytest.raises(ValueError, match=message + rf" x {image[1]}; pass TokenGrid\(prefix="):
        fam_jax.TokenGrid(prefix=5 + wrong).grid(tokens, image=image)


@pytest.mark.parametrize(("prefix", "tokens"), [(0, 197), (197, 197), (200, 197)])
def test_tokens_that_fill_no_square_are_refused(prefix, tokens):
    with pytest.raises(ValueError, match=rf"less a prefix of {prefix} fill no square grid; pass"):
        fam_jax.TokenGrid(prefix=prefix).grid(tokens)


def test_a_given_shape_is_kept_whatever_the_image():
    grid = fam_jax.TokenGrid(prefix=1, shape=(2, 8))
    assert grid.grid(17, image=(224, 224)) == (2, 8)
    with pytest.raises(ValueError, match=r"18 tokens less a prefix of 1 do not fill .* 2 x 8"):
        grid.grid(18, image=(224, 224))


class Other(NamedTuple):
    prefix: int
    shape: tuple[int, int] | None


@pytest.mark.parametrize(
    "tokens",
    [fam_jax.TokenGrid(2), Other(2, None), Other(2, (4, 6)), (2, None), (2, (4, 6)), (2, [4, 6])],
    ids=repr,
)
def test_captured_maps_lie_as_the_patches_do(images, tokens):
    """A token's place on the map is its patch's place on the picture; 4 x 6 patches of 16 x 26."""
    enc = fam_jax.capture(embed, at="tokens", tokens=tokens)(images)
    expected = images[:, :, :24].reshape(2, 4, 4, 6, 4, 3).mean((2, 4))
    assert_close(enc.activations, expected, relative_to=images)
    pulled = enc.pullback(jnp.ones_like(enc.embeddings))
    np.testing.assert_allclose(pulled, np.full((2, 4, 6, 3), 1 / 26), rtol=1e-6)
    assert enc.activations.shape == (2, 4, 6, 3)


def test_one_encoder_follows_images_of_several_shapes(images):
    encode = fam_jax.encoder(patches, lambda tokens: tokens.mean(1), tokens=(2, None))
    assert encode(images).activations.shape == (2, 4, 6, 3)
    assert encode(images.swapaxes(1, 2)).activations.shape == (2, 6, 4, 3)


def test_encoders_of_equal_grids_share_one_compilation(images):
    run, traces = counted(lambda encode, x: encode(x).embeddings)
    for tokens in (Other(2, None), (2, None), fam_jax.TokenGrid(2)):
        run(fam_jax.capture(embed, at="tokens", tokens=tokens), images)
    assert len(traces) == 1


@pytest.mark.parametrize("tokens", [3, (1, 2, 3), [1, None], (4, 4)])
def test_other_tokens_are_refused(tokens, unchecked):
    with pytest.raises(TypeError, match="tokens: expected TokenGrid"):
        fam_jax.capture(embed, at="tokens", tokens=tokens)
