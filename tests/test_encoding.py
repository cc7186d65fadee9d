"""`capture`, `encoder` and `tap`: taps in functions, tokens, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from tests.close import assert_close
from tests.toy_network import Tokens, network


@pytest.fixture
def net():
    return network()


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)


def test_taps_in_plain_functions(images):
    def embed(x):
        x = fam_jax.tap(jnp.tanh(x), "low")
        return fam_jax.tap(x * 2, "high").mean((1, 2))

    for at, expected in (("low", np.tanh(images)), ("high", 2 * np.tanh(images))):
        enc = fam_jax.capture(embed, at=at)(images)
        assert_close(enc.activations, expected, rtol=1e-6)
    assert_close(embed(images), (2 * np.tanh(images)).mean((1, 2)), relative_to=2, rtol=1e-6)


def test_taps_survive_compilation_vmap_and_remat(images):
    """A tap is part of the program: it is found in functions already compiled, also twice."""
    inner = jax.jit(lambda x: fam_jax.tap(jnp.tanh(x), "a"))
    compiled = jax.jit(lambda x: inner(x).mean((1, 2)))
    compiled(images)
    mapped = jax.vmap(lambda x: fam_jax.tap(jnp.tanh(x), "a").mean((0, 1)))
    remat = lambda x: jax.checkpoint(inner)(x).mean((1, 2))  # noqa: E731
    moved = jax.vmap(lambda x: fam_jax.tap(jnp.tanh(x), "a").mean((0, 1)), in_axes=3)
    for fn in (compiled, compiled, mapped, remat, lambda x: moved(jnp.moveaxis(x, 0, 3))):
        enc = fam_jax.capture(fn, at="a")(images)
        assert_close(enc.activations, np.tanh(images), rtol=1e-6)
        v = jnp.ones_like(enc.embeddings)
        np.testing.assert_allclose(enc.pullback(v), np.full(images.shape, 1 / 96), rtol=1e-6)


def test_parameters_of_a_partial_are_leaves(images):
    def embed(scale, x):
        return fam_jax.tap(x * scale, "a").mean((1, 2))

    encode = fam_jax.capture(jax.tree_util.Partial(embed, jnp.float32(3)), at="a")
    slope = jax.grad(lambda encode: encode(images).embeddings.sum())(encode)
    means = images.mean((1, 2))
    assert_close(jax.tree.leaves(slope)[0], means.sum(), relative_to=images)


def test_token_grid(images):
    model = Tokens(nnx.Rngs(0))
    grid = fam_jax.TokenGrid(prefix=2, shape=(8, 12))
    enc = fam_jax.capture(model, at="blocks.1", tokens=grid)(images)
    assert enc.activations.shape == (2, 8, 12, 3)
    last = fam_jax.capture(model, at="blocks.0", tokens=grid)(images)
    assert_close(last.activations.reshape(2, 96, 3), model.blocks[0](images.reshape(2, 96, 3)))
    assert enc.pullback(enc.embeddings).shape == (2, 8, 12, 3)


def test_square_grids_are_found_from_the_token_count():
    assert fam_jax.TokenGrid(prefix=5).grid(261) == (16, 16)


def tap_in_a_scan(x):
    x, _ = jax.lax.scan(lambda c, _: (fam_jax.tap(c, "a"), None), x, None, length=2)
    return x.mean((1, 2))


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: x.mean((1, 2)), "met no layer 'a'; it met: none"),
        (lambda x: fam_jax.tap(x, "b").mean((1, 2)), "it met: b"),
        (lambda x: (fam_jax.tap(x, "a") + fam_jax.tap(x, "a")).mean((1, 2)), "runs 2 times"),
        (lambda x: fam_jax.tap(x.mean((1, 2)), "a"), r"\(2, 3\); a map needs \[batch, height"),
        (lambda x: fam_jax.tap(x.reshape(2, -1, 3), "a").mean(1), r"pass tokens=fam_jax.TokenGrid"),
        (lambda x: fam_jax.tap(x, "a"), r"must return embeddings \[2, d\]"),
        (lambda x: (fam_jax.tap(x, "a"), 1), "must return embeddings .* got tuple"),
        (lambda x: fam_jax.tap(x[:1], "a").mean((1, 2)), "must return embeddings"),
        (tap_in_a_scan, "inside `scan`"),
    ],
)
def test_functions_that_cannot_be_explained_say_why(fn, message, images):
    with pytest.raises(ValueError, match=message):
        fam_jax.capture(fn, at="a")(images)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda x: x[0], ValueError, r"images: the network takes no array of shape \(8, 12, 3\)"),
        (lambda x: x[0, 0, 0], ValueError, r"images: expected an array \[batch height width ch"),
        (
            lambda x: x.astype(jnp.uint8),
            TypeError,
            "images: expected an .* numbers .* got uint8",
        ),
        (lambda x: [1, 2], TypeError, "images: expected an array .* got list"),
    ],
)
def test_wrong_images_are_refused(net, images, bad, error, message, unchecked):
    with pytest.raises(error, match=message):
        fam_jax.capture(net, at="layer4")(bad(images))


def test_tokens_that_do_not_fill_the_grid(images):
    encode = fam_jax.capture(
        Tokens(nnx.Rngs(0)), at="blocks.0", tokens=fam_jax.TokenGrid(prefix=2, shape=(8, 8))
    )
    with pytest.raises(ValueError, match=r"98 tokens less a prefix of 2 do not fill .* 8 x 8"):
        encode(images)


def test_wrong_cotangents_are_refused(net, images):
    enc = fam_jax.capture(net, at="layer4")(images)
    with pytest.raises(ValueError, match=r"expected cotangents \(2, 6\)"):
        enc.pullback(jnp.ones((2, 5)))
