"""What goes in: signals, volumes, points, token ids; one rule tells how a layer's output lies."""

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax._core.tokens import TokenGrid
from tests import positions
from tests.close import assert_close

RNG = np.random.default_rng(0)


def tapped(layer):
    """A network whose layer is `layer(x)`; its embedding the mean over whatever is between."""

    def network(x):
        out = fam_jax.tap(layer(x), "layer")
        return out.mean(tuple(range(1, out.ndim - 1)))

    return network


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def tokens_of(shape, prefix=0):
    """Patches of 2 along every axis of the input as tokens, after `prefix` of zeros."""

    def layer(x):
        n = int(np.prod([side // 2 for side in shape]))
        x = x.reshape(len(x), n, -1)[..., :4]
        return jnp.pad(x, ((0, 0), (prefix, 0), (0, 0)))

    return layer


TABLE = jnp.asarray(floats(11, 4))
LINE, IDS = floats(2, 12, 3), RNG.integers(0, 11, (2, 7))


@pytest.mark.parametrize(
    ("x", "layer", "tokens", "space"),
    [
        (LINE, lambda x: x[:, ::2], None, (6,)),
        (floats(2, 8), lambda x: x[:, :, None], None, (8,)),  # a wave without channels
        (floats(2, 5, 3), lambda x: x, None, (5,)),  # points
        (IDS, lambda x: TABLE[x], None, (7,)),
        (IDS.astype(np.uint8), lambda x: TABLE[x.astype(int)], None, (7,)),  # bytes are ids, too
        (LINE, tokens_of((12,), prefix=1), TokenGrid(1), (6,)),
        (LINE, lambda x: x.reshape(-1, 3, 4, 3), None, (3, 4)),  # of a signal its spectrogram
        (floats(2, 4, 4, 6, 1), lambda x: x[:, ::2], None, (2, 4, 6)),
        (floats(2, 4, 4, 6, 4), tokens_of((4, 4, 6), 2), TokenGrid(2, (2, 2, 3)), (2, 2, 3)),
        (floats(2, 4, 4, 6, 4), lambda x: x.mean((2, 3)), TokenGrid(0, (4,)), (4,)),
        (floats(2, 4, 4, 6, 4), lambda x: x.mean(1), TokenGrid(0, (4, 6)), (4, 6)),
        (floats(2, 3, 4, 4, 6, 2), lambda x: x, None, (3, 4, 4, 6)),
    ],
)
def test_a_layer_is_a_map_of_its_positions(x, layer, tokens, space):
    """Pooled, the decomposition sums to the score, whatever the input; and the pullback fits."""
    encode = fam_jax.capture(tapped(layer), at="layer", tokens=tokens)
    enc = encode(x)
    assert enc.activations.shape[:-1] == (2, *space)
    out = fam_jax.explain_pairs(encode, x, x[::-1], fam_jax.decomposition())
    sums = out.query_maps.sum(tuple(range(1, 1 + len(space))))
    if tokens is None or not tokens.prefix:  # or what stands before holds a part
        assert_close(sums, out.scores, relative_to=out.query_maps, rtol=1e-5)
    again = encode.from_features(encode.features(x))
    assert_close(again.activations, enc.activations)
    assert_close(encode.replay(x, enc.activations).embeddings, enc.embeddings)


@pytest.mark.parametrize(
    ("x", "layer", "tokens", "message"),
    [
        (
            floats(2, 4, 4, 6, 4),
            tokens_of((4, 4, 6)),
            None,
            r"map needs \[batch, depth, height",
        ),
        (floats(2, 4, 4, 6, 4), lambda x: x.mean(1), None, r"tokens=fam_jax.TokenGrid\(prefix"),
        (
            floats(2, 4, 4, 6, 4),
            tokens_of((4, 4, 6)),
            TokenGrid(),
            "of 4 x 4 x 6 can't be told",
        ),
        (floats(2, 4, 4, 6, 4), tokens_of((4, 4, 6)), TokenGrid(0, (2, 2, 2)), "of 2 x 2 x 2"),
        (floats(2, 4, 4, 6, 4), lambda x: x, TokenGrid(0, (2, 2, 3)), "no map of the patches of 4"),
        (LINE, lambda x: x.mean(1), None, r"a map needs \[batch, positions, channels\]"),
        (LINE[0, 0], lambda x: x, None, "images: expected an array"),
    ],
)
def test_what_is_no_map_says_what_to_pass(x, layer, tokens, message, unchecked):
    with pytest.raises(ValueError, match=message):
        fam_jax.capture(tapped(layer), at="layer", tokens=tokens)(x)


@pytest.mark.parametrize("x", [IDS[..., None], LINE > 0], ids=["ids with channels", "booleans"])
def test_numbers_of_other_kinds_are_refused(x, unchecked):
    with pytest.raises(TypeError, match=r"floating-point numbers, or integers \[batch, tokens\]"):
        fam_jax.capture(tapped(lambda x: x), at="layer")(x)


def test_channels_first_on_any_number_of_axes():
    for shape in positions.SPACES:
        x = positions.activations(shape, dtype=np.float32)
        last = fam_jax.capture(tapped(positions.convolve), at="layer")(x)

        def first(x):
            out = positions.convolve(jnp.moveaxis(x, 1, -1))
            out = fam_jax.tap(jnp.moveaxis(out, -1, 1), "layer")
            return out.mean(tuple(range(2, out.ndim)))

        other = fam_jax.capture(first, at="layer", layout="NCHW")(x)
        assert_close(other.activations, last.activations)
        assert_close(other.pullback(other.embeddings), last.pullback(last.embeddings))


def test_queries_of_ids_against_ids_and_against_embeddings():
    encode = fam_jax.capture(tapped(lambda x: TABLE[x]), at="layer")
    out = fam_jax.explain_all(encode, IDS, IDS, fam_jax.decomposition())
    assert out.maps.shape == (2, 2, 7)
    known = fam_jax.explain_all(encode, IDS, encode(IDS).embeddings, fam_jax.decomposition())
    assert_close(known.maps, out.maps)


def test_what_cannot_be_changed_a_little_is_refused(unchecked):
    encode = fam_jax.capture(tapped(lambda x: TABLE[x]), at="layer")
    r = encode(IDS).embeddings
    for method in (fam_jax.rise(masks=2), fam_jax.occlusion(), fam_jax.score_cam()):
        with pytest.raises(TypeError, match="this method changes the inputs, which must be float"):
            fam_jax.explain(encode, IDS, r, method)
