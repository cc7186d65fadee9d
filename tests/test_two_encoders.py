"""Maps of a pair from two networks with one embedding space: pictures, and sentences of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from fam_jax import methods
from tests.close import assert_close
from tests.programs import on_devices

pytestmark = pytest.mark.usefixtures("x64")

WORDS, TOKENS, DIM = 11, 6, 5
BANK = np.random.default_rng(2).normal(size=(4, DIM))
METHODS = {
    "fam": fam_jax.fam(),
    "contrastive": fam_jax.contrastive(BANK),
    "grad_cam": fam_jax.grad_cam(),
    "point_to_point": fam_jax.point_to_point(),
    "integrated_pair": fam_jax.integrated_pair(steps=2),
}


class Images(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), param_dtype="float64", rngs=rngs)
        self.fc = nnx.Linear(8, DIM, param_dtype="float64", rngs=rngs)

    def __call__(self, images):
        return self.fc(nnx.relu(self.conv(images)).mean((1, 2)))


class Words(nnx.Module):
    def __init__(self, rngs):
        self.rows = nnx.Param(rngs.params.normal((WORDS, 7), jnp.float64))

    def __call__(self, ids):
        rows = self.rows[...]
        return jax.nn.one_hot(ids, WORDS, dtype=rows.dtype) @ rows  # on a mesh as elsewhere


class Sentences(nnx.Module):
    """Words that look back, read at the end."""

    def __init__(self, rngs):
        self.words = Words(rngs)
        self.fc = nnx.Linear(7, DIM, param_dtype="float64", rngs=rngs)

    def __call__(self, ids):
        x = self.words(ids)
        n = x.shape[1]
        scores = jnp.where(jnp.tril(jnp.ones((n, n), bool))[None], x @ x.swapaxes(1, 2), -jnp.inf)
        return self.fc((x + jax.nn.softmax(scores) @ x)[:, -1])


@pytest.fixture(scope="module")
def encoders():
    with jax.enable_x64(True):
        of_images = fam_jax.capture(Images(nnx.Rngs(0)), at="conv")
        return of_images, fam_jax.capture(Sentences(nnx.Rngs(1)), at="words", gates="frozen")


def pictures(n=3, dtype=np.float64):
    return np.random.default_rng(0).normal(size=(n, 6, 8, 3)).astype(dtype)


def sentences(n=3):
    return np.random.default_rng(1).integers(0, WORDS, (n, TOKENS)).astype(np.int32)


@jax.jit
def by_all(encoders, methods, images, ids):
    """The methods in one program, which is compiled sooner than one for each."""
    return {name: fam_jax.explain_pairs(encoders, images, ids, of) for name, of in methods.items()}


@jax.jit
def by_hand(encoders, methods, images, ids):
    """Each side encoded by its own encoder, and explained towards the other by itself."""
    out = {}
    for name, method in methods.items():
        q, r = encoders[0](images, method), encoders[1](ids, method)
        there, back = (q, r), (r, q)
        if name == "fam":  # whose weights are shared: both maps are of the query's
            out[name] = method.pair(q, r)
        else:
            out[name] = tuple(method(*pair) for pair in (there, back))
    return out


def test_both_maps_are_those_of_two_calls_by_hand(encoders):
    args = METHODS, pictures(), sentences()
    expected = by_hand(encoders, *args)
    for name, out in by_all(encoders, *args).items():
        assert (out.query_maps.shape, out.reference_maps.shape) == ((3, 6, 8), (3, TOKENS))
        assert out.valid.all(), name
        assert_close(out.query_maps, expected[name][0], rtol=1e-10)
        assert_close(out.reference_maps, expected[name][1], rtol=1e-10)


def test_fams_weights_are_of_the_pair(encoders):
    """Written out: w = minmax of the shares, pulled back by each network for itself."""
    out = fam_jax.explain_pairs(encoders, pictures(), sentences())
    q, r = encoders[0](pictures()), encoders[1](sentences())
    w = fam_jax.minmax(fam_jax.cosine.shares(q.embeddings, r.embeddings))
    for enc, maps in ((q, out.query_maps), (r, out.reference_maps)):
        alpha = enc.pullback(w).sum(tuple(range(1, enc.activations.ndim - 1)))
        assert_close(maps, jnp.einsum("b...c,bc->b...", enc.activations, alpha), rtol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_one_encoder_twice_is_one_encoder_bit_by_bit(encoders, name):
    encode, method, x, y = encoders[0], METHODS[name], pictures(), pictures()[::-1]
    one, two = (fam_jax.explain_pairs(e, x, y, method) for e in (encode, (encode, encode)))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    one, two = (
        fam_jax.explain_all(e, x, y[:2], method, chunk=2) for e in (encode, (encode, encode))
    )
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize("name", ["contrastive", "point_to_point", "integrated_pair"])
def test_all_pairs_are_the_pairs_whatever_the_chunk(encoders, name):
    x, ids = pictures(2), sentences(3)
    method = METHODS[name]
    pairs = fam_jax.explain_pairs(encoders, x.repeat(3, 0), np.tile(ids, (2, 1)), method)
    for chunk in (1, 16):
        out = fam_jax.explain_all(encoders, x, ids, method, chunk=chunk)
        assert_close(out.maps, pairs.query_maps.reshape(2, 3, 6, 8), rtol=1e-10)
        assert_close(out.scores.ravel(), pairs.scores, 1, rtol=1e-10)
    if name == "contrastive":  # its references may be embeddings, as before
        again = fam_jax.explain_all(encoders, x, encoders[1](ids).embeddings, method)
        assert_close(again.maps, out.maps, rtol=1e-10)


def test_position_pairs_share_the_score_between_patches_and_words(encoders):
    """Summed over one side they are `point_to_point` of the other."""
    q, r = encoders[0](pictures()), encoders[1](sentences())
    p2p = fam_jax.position_pairs(q, r)
    assert p2p.shape == (3, 6, 8, TOKENS)
    maps, back = fam_jax.point_to_point().pair(q, r)
    assert_close(p2p.sum(3), maps, np.abs(p2p).sum(3), rtol=1e-10)
    assert_close(p2p.sum((1, 2)), back, np.abs(p2p).sum((1, 2)), rtol=1e-10)


def test_what_patches_and_words_share_beyond_all_others(encoders):
    """`centred` has no mean over either side, and is of the parts less their means; the word that
    a patch shares most with is found by hand. Of the pairs seen from the sentence, the same.
    """
    q, r = encoders[0](pictures()), encoders[1](sentences())
    p2p = fam_jax.position_pairs(q, r)
    own = np.asarray(p2p).reshape(3, 48, TOKENS)
    means = (
        own.mean(1, keepdims=True) + own.mean(2, keepdims=True) - own.mean((1, 2))[:, None, None]
    )
    centred = fam_jax.centred(p2p, query_axes=2)
    assert_close(centred, (own - means).reshape(p2p.shape), np.abs(own).max(), rtol=1e-12)
    back = fam_jax.centred(jnp.moveaxis(p2p, 3, 1), query_axes=1)
    assert_close(jnp.moveaxis(back, 1, 3), centred, np.abs(own).max(), rtol=1e-12)

    words = fam_jax.correspondences(p2p, query_axes=2)
    assert words.shape == (3, 6, 8, 1)
    np.testing.assert_array_equal(words[..., 0].reshape(3, 48), own.argmax(2))
    patches = jax.jit(fam_jax.correspondences, static_argnums=1)(jnp.moveaxis(p2p, 3, 1), 1)
    assert patches.shape == (3, TOKENS, 2)
    np.testing.assert_array_equal(patches[..., 0] * 8 + patches[..., 1], own.argmax(1))


def test_sharded_pairs_need_no_communication(encoders):
    few = {name: METHODS[name] for name in ("fam", "contrastive", "point_to_point")}
    expected = by_all(encoders, few, pictures(8), sentences(8))
    out = on_devices(by_all, pictures(8), sentences(8), shared=(encoders, few))
    for name, of in out.items():
        assert of.reference_maps.sharding.spec[0] == "batch"
        assert_close(of.query_maps, expected[name].query_maps, rtol=1e-10)
        assert_close(of.reference_maps, expected[name].reference_maps, rtol=1e-10)


def test_gradients_reach_the_parameters_of_both(encoders):
    def loss(encoders):
        out = fam_jax.explain_pairs(encoders, pictures(), sentences(), fam_jax.decomposition())
        return jnp.sum(out.query_maps**2) + jnp.sum(out.reference_maps**2)

    for slopes in jax.jit(jax.grad(loss))(encoders):
        leaves = jax.tree.leaves(slopes)
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert max(np.abs(leaf).max() for leaf in leaves) > 0


@pytest.mark.numerics
def test_each_network_may_be_of_its_own_type(encoders):
    """Digits of the largest value of the maps, in float32 though both networks are not."""
    exact = by_all(encoders, {"fam": METHODS["fam"]}, pictures(), sentences())["fam"]
    low = [jax.tree.map(lambda v: v.astype("bfloat16"), encode) for encode in encoders]
    half = jax.tree.map(lambda v: v.astype("float32"), encoders[1])
    for pair, dtype in (((low[0], low[1]), "bfloat16"), ((low[0], half), "float32")):
        out = fam_jax.explain_pairs(pair, jnp.asarray(pictures(), "bfloat16"), sentences())
        assert out.query_maps.dtype == out.reference_maps.dtype == "float32", dtype
        assert_close(out.query_maps, exact.query_maps, rtol=0.1)
        assert_close(out.reference_maps, exact.reference_maps, rtol=0.1)


REFUSED = {
    "three encoders": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, r, r), x, ids),
        (TypeError, r"encode: expected one encoder, or two .*, got a tuple of 3"),
    ),
    "the second is none": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, None), x, ids),
        (TypeError, r"encode\[1\], of the references: expected fam_jax.capture\(...\), got None"),
    ),
    "the first is none": (
        lambda q, r, x, ids: fam_jax.explain_all((3, r), x, ids),
        (TypeError, r"encode\[0\], of the queries: expected fam_jax.capture\(...\), got int"),
    ),
    "other numbers": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, r), x, ids[:1]),
        (ValueError, "3 queries but 1 references"),
    ),
    "shape of the references": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, r), x, ids[0]),
        (ValueError, r"references: expected an array .* got shape \(6,\)"),
    ),
    "type of the references": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, r), x, ids.astype(bool)),
        (TypeError, r"references: expected floating-point numbers, or integers .*, got bool"),
    ),
    "type of the queries": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, r), x.astype(int), ids),
        (TypeError, "queries: expected floating-point numbers, or integers .*, got int64"),
    ),
    "another space": (
        lambda q, r, x, ids: fam_jax.explain_pairs(
            (q, fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))), x, x
        ),
        (ValueError, r"reference: expected embeddings \(3, 5\) like the query's, got \(3, 3\)"),
    ),
    "another space, of all": (
        lambda q, r, x, ids: fam_jax.explain_all(
            (q, fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))), x, x
        ),
        (ValueError, r"references have shape \(3, 3\), but embeddings have 5 dimensions"),
    ),
    "other channels": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, r), x, ids, fam_jax.interaction_cam()),
        (ValueError, "reference: .* expected 8 as the query's layer has, got 7"),
    ),
    "other channels of concepts": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, r), x, ids, fam_jax.nmf_concepts()),
        (ValueError, "reference: expected 8 channels, got 7"),
    ),
    "words cannot be changed a little": (
        lambda q, r, x, ids: fam_jax.explain_pairs((q, r), x, ids, methods.make("occlusion")),
        (TypeError, "this method changes the inputs, which must be floating-point"),
    ),
    "pairs of which nobody says whose axes they are": (
        lambda q, r, x, ids: fam_jax.centred(fam_jax.position_pairs(q(x), r(ids))),
        (ValueError, r"shape \(3, 6, 8, 6\): of 3 axes of positions, say .* query_axes="),
    ),
    "no axes of the reference": (
        lambda q, r, x, ids: fam_jax.correspondences(
            fam_jax.position_pairs(q(x), r(ids)), query_axes=3
        ),
        (ValueError, "query_axes: expected an integer from 1 to 2, got 3"),
    ),
    "a pair for images and embeddings": (
        lambda q, r, x, ids: fam_jax.explain((q, r), x, BANK[:3]),
        (TypeError, r"encode: expected fam_jax.capture\(...\), got tuple"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arguments_are_refused_in_one_line(encoders, case, unchecked):
    call, (error, message) = REFUSED[case]
    with pytest.raises(error, match=message) as raised:
        call(*encoders, pictures(), sentences())
    assert "\n" not in str(raised.value)
