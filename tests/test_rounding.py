"""Where the terms of a map cancel exactly, the rounding that is left of them is no map."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax._core.checks import wide

pytestmark = pytest.mark.numerics

C, GRID = 16, (3, 4)
RNG = np.random.default_rng(0)
WEIGHTS = {name: RNG.normal(size=(C, C)) / 4 for name in ("q", "k", "v", "up", "down", "head")}
MIX = RNG.normal(size=(12, 12)) / 3
IMAGES = RNG.normal(size=(2, *GRID, C))
REFERENCES = RNG.normal(size=(2, C))

# What multiplies activations by their gradients; other maps keep something at such a layer.
SUMS = {
    "decomposition": fam_jax.decomposition(),
    "hires_cam": fam_jax.hires_cam(),
    "contrastive": fam_jax.decomposition(
        fam_jax.margin(fam_jax.cosine, RNG.normal(size=(5, C)).astype(np.float32))
    ),
}


def norm(x):
    """A layer norm: blind to the length of a token, hence <dz/dx, x> = 0."""
    (y,) = wide(x)
    y = y - y.mean(-1, keepdims=True)
    return (y / jnp.sqrt(jnp.square(y).mean(-1, keepdims=True))).astype(x.dtype)


def matrices(x):
    return {name: jnp.asarray(w, x.dtype) for name, w in WEIGHTS.items()}


def class_token_network(images, blocks=1):
    """Pre-norm blocks; the patches reach the class token through the last block's norm."""
    w, (b, *_, c) = matrices(images), images.shape
    first = jnp.broadcast_to(w["head"][:1], (b, 1, c))  # the class token
    x = jnp.concatenate([first, images.reshape(b, -1, c)], axis=1)
    for n in range(blocks):
        x = fam_jax.tap(x, f"input{n}")
        y = fam_jax.tap(norm(x), f"norm{n}")
        A = jax.nn.softmax(jnp.einsum("bic,bjc->bij", y @ w["q"], y @ w["k"]), axis=-1)
        x = x + jnp.einsum("bij,bjc->bic", A, y @ w["v"])
        x = x + jax.nn.gelu(norm(x) @ w["up"]) @ w["down"]
    return norm(x)[:, 0] @ w["head"]


def mixer(images):
    """A mixer: tokens are mixed, then every token is normed and the mean is the embedding."""
    w, (b, *_, c) = matrices(images), images.shape
    x = images.reshape(b, -1, c)
    for n in range(2):
        y = fam_jax.tap(norm(x), f"norm{n}")
        x = x + jnp.einsum("ij,bjc->bic", jnp.asarray(MIX, x.dtype), y)
        x = fam_jax.tap(x + jax.nn.gelu(norm(x) @ w["up"]) @ w["down"], f"block{n}")
    return norm(x).mean(1) @ w["head"]


# Layers, whether a map there says something (the last but one is blind); tokens of no patch.
NETWORKS = {
    "class token": (class_token_network, {"input0": False, "norm0": True}, 1),
    "class token, two blocks": (
        partial(class_token_network, blocks=2),
        {"input0": True, "input1": False, "norm1": True},
        1,
    ),
    "mixer": (mixer, {"block1": False, "norm1": True}, 0),
}
# The blocks before the last change nothing that depends on the type.
CASES = [
    (of, dtype)
    for of in NETWORKS
    for dtype in ("float64", "float32", "bfloat16")
    if "two" not in of or dtype == "float32"
]


@pytest.mark.parametrize(("of", "dtype"), CASES)
def test_a_map_of_rounding_is_zero_and_not_valid(of, dtype):
    network, layers, prefix = NETWORKS[of]
    with jax.enable_x64(dtype == "float64"):
        images, references = (jnp.asarray(x, dtype) for x in (IMAGES, REFERENCES))
        tokens = fam_jax.TokenGrid(prefix, GRID)
        encode = fam_jax.capture(network, at=list(layers), tokens=tokens)
        blind = fam_jax.capture(network, at=[*layers][-2], tokens=tokens)

        @jax.jit
        def run(encode, blind, images, references):
            encodings = encode(images)
            methods = SUMS | {"fam": fam_jax.fam(), "layer_cam": fam_jax.layer_cam()}
            maps = [{n: m(enc, references) for n, m in methods.items()} for enc in encodings]
            points = [fam_jax.position_pairs(enc, enc) for enc in encodings]
            integrated = fam_jax.integrated_position_pairs(blind, images, images, steps=1)
            explained = fam_jax.explain(blind, images, references, SUMS["hires_cam"])
            return maps, points, integrated.maps, explained.valid

        maps, points, integrated, valid = run(encode, blind, images, references)
        assert valid.tolist() == [False] * 2
        assert not integrated.any()
        for says, by_method, p2p in zip(layers.values(), maps, points, strict=True):
            for name, one in by_method.items():
                assert one.any((1, 2)).tolist() == [says or name not in SUMS] * 2, name
            assert p2p.any((1, 2, 3, 4)).tolist() == [says] * 2


def test_an_image_whose_map_is_rounding_spares_the_others():
    """One image of a batch may be blind: behind a norm that it alone goes through."""

    def embed(images):
        x = fam_jax.tap(images, "a")
        return jnp.concatenate([norm(x[:1]), x[1:]]).mean((1, 2))

    images, references = (x.astype(np.float32) for x in (IMAGES, REFERENCES))
    out = fam_jax.explain(
        fam_jax.capture(embed, at="a"), images, references, fam_jax.decomposition()
    )
    assert out.valid.tolist() == [False, True]
    assert not out.maps[0].any()
    np.testing.assert_allclose(out.maps[1].sum(), out.scores[1], rtol=1e-5)


def test_gradients_that_sum_to_zero_are_no_rounding():
    """The true gradient of a cosine sums to 0 over the positions; its map is what it was."""
    images, references = (x.astype(np.float32) for x in (IMAGES, REFERENCES))
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    out = fam_jax.explain(encode, images, references, fam_jax.hires_cam(norms="free"))
    assert out.valid.all()
    assert (np.abs(out.maps.sum((1, 2))) < 1e-5 * np.abs(out.maps).sum((1, 2))).all()
