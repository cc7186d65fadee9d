"""Maps from attention matrices: transformations, refusals, and a transformer end to end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import fam_jax
import pretrained_ports
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS
from tests.close import assert_close
from tests.explained import explained
from tests.programs import on_devices

pytestmark = pytest.mark.numerics

B, HEADS, N, C = 8, 2, 7, 8  # a class token and 2 x 3 patches
TOKENS = fam_jax.TokenGrid(prefix=1, shape=(2, 3))
LAYERS = ("attn0", "attn1")
WEIGHTS = np.random.default_rng(0).normal(size=(2, C, 4 * C)) / np.sqrt(C)


def embed(images):
    """Two blocks of attention with skips on [b 2 3 8]; the class token's is the embedding."""
    b, dtype = images.shape[0], images.dtype
    x = jnp.concatenate([jnp.ones((b, 1, C), dtype), images.reshape(b, 6, C)], 1)
    for n, weights in enumerate(jnp.asarray(WEIGHTS, dtype)):
        qkv = fam_jax.tap(x @ weights[:, : 3 * C], f"qkv{n}")
        q, k, v = qkv.reshape(b, N, 3, HEADS, -1).transpose(2, 0, 3, 1, 4)
        A = fam_jax.tap(jax.nn.softmax(q @ k.swapaxes(2, 3)), f"attn{n}")
        x = x + (A @ v).swapaxes(1, 2).reshape(b, N, C) @ weights[:, 3 * C :]
    return x[:, 0]


METHODS = {
    "rollout": fam_jax.attention_rollout(layers=LAYERS),
    "chefer": fam_jax.chefer(layers=LAYERS),
    "le_grad": fam_jax.le_grad(layers=LAYERS),
    "le_grad_signed": fam_jax.le_grad(signed=True, layers=LAYERS),
    "grad_eclip": fam_jax.grad_eclip(layers=("qkv1", "attn1")),
}
ENCODE = fam_jax.capture(embed, at="qkv0", tokens=TOKENS)
every = pytest.mark.parametrize("name", METHODS)


def case(b=B, dtype=np.float32):
    rng = np.random.default_rng(1)
    images, references = rng.normal(size=(b, 2, 3, C)), rng.normal(size=(b, C))
    return jnp.asarray(images.astype(dtype)), jnp.asarray(references.astype(dtype))


def test_gradients_are_those_of_the_similarity_with_norms_held(x64):
    """Of one matrix' score by its entries, by finite differences of a dot product."""
    images, r = case(1, np.float64)
    watched = fam_jax.capture(embed, at=["attn1"]).watch(images)
    run = explained(fam_jax.chefer(fam_jax.dot, layers=("attn1",)), ENCODE, images, r)
    x = np.asarray(watched.embeddings[0] - _mixed(watched.values[0], images)[0])
    expected = np.zeros(6)
    A = np.asarray(watched.values[0])
    for h, i in np.ndindex(HEADS, 6):
        more = A.copy()
        more[0, h, 0, 1 + i] += 1
        gain = (np.asarray(_mixed(jnp.asarray(more), images)[0]) + x) @ np.asarray(r[0])
        slope = gain - np.asarray(watched.embeddings[0]) @ np.asarray(r[0])
        expected[i] += max(A[0, h, 0, 1 + i] * slope, 0) / HEADS
    np.testing.assert_allclose(run.reshape(-1), expected, rtol=1e-10)


def _mixed(A, images):
    """What the second block adds to the class token for attention A, to which it is linear."""
    (qkv,) = fam_jax.capture(embed, at=["qkv1"]).watch(images).values
    v = qkv[..., 2 * C :].reshape(1, N, HEADS, -1).swapaxes(1, 2)
    return ((A @ v).swapaxes(1, 2).reshape(1, N, C) @ WEIGHTS[1][:, 3 * C :])[:, 0]


@jax.jit
def by_all(images, r):
    """The methods in one program, which is compiled sooner than one for each."""
    return {name: explained(method, ENCODE, images, r) for name, method in METHODS.items()}


@pytest.fixture(scope="module")
def plain():
    """Of every method in float64."""
    with jax.enable_x64(True):
        return by_all(*case(dtype=np.float64))


@pytest.fixture(scope="module")
def maps():
    """Mapped over single images, and on eight devices."""
    with jax.enable_x64(True):
        both = case(dtype=np.float64)
        one = lambda x, r: jax.tree.map(lambda m: m[0], by_all(x[None], r[None]))  # noqa: E731
        return {"vmap": jax.jit(jax.vmap(one))(*both), "devices": on_devices(by_all, *both)}


@pytest.mark.double
@every
def test_single_images_and_devices_agree(name, plain, maps):
    plain = plain[name]
    assert plain.shape == (B, 2, 3)
    assert plain.dtype == jnp.float64
    assert plain.any((1, 2)).sum() >= B - 1
    for way in ("vmap", "devices"):
        assert_close(maps[way][name], plain, rtol=1e-10)


@pytest.fixture(scope="module")
def narrow():
    images, r = case()
    return {
        "float32": by_all(images, r),
        "bfloat16": by_all(images.astype(jnp.bfloat16), r.astype(jnp.bfloat16)),
        "bad": by_all(images.at[1, 0, 0, 0].set(jnp.nan), r.at[2].set(0)),
    }


@every
def test_bfloat16_gives_float32_maps_and_nothing_to_say_gives_zeros(name, narrow, plain):
    """Digits of the largest value of the maps."""
    for dtype, digits in (("float32", 1e-4), ("bfloat16", 0.1)):
        assert narrow[dtype][name].dtype == jnp.float32
        assert_close(narrow[dtype][name], plain[name], rtol=digits)
    silent = [1, 2]
    bad, exact = (np.asarray(narrow[kind][name]) for kind in ("bad", "float32"))
    assert not bad[silent].any()
    assert_close(np.delete(bad, silent, 0), np.delete(exact, silent, 0))


def test_gradients_by_references_and_images(x64):
    images, r = case(1, np.float64)
    loss = jax.jit(lambda x, r: jnp.sum(explained(METHODS["chefer"], ENCODE, x, r)))
    check_grads(loss, (images, r), order=1, modes=["rev"], rtol=1e-5)


def test_a_transformer_end_to_end():
    """Its attention layers by name; rows that sum to 1; maps of images that are not square."""
    variant = VARIANTS["vit-tiny-patch16"]._replace(patch=4, dim=24, depth=1, heads=2, grid=5)
    model = VisionTransformer(variant, rngs=nnx.Rngs(0))
    layers = fam_jax.attention_layers(model)
    assert layers == ("blocks.0.attn.attn_drop",)
    images = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    watched = fam_jax.capture(model, at=layers).watch(images)
    (A,) = watched.values
    assert A.shape == (2, 2, 7, 7)
    assert_close(A.sum(-1), np.ones((2, 2, 7)))
    encode = fam_jax.capture(model, at="blocks.0", tokens=fam_jax.TokenGrid(prefix=1))
    maps = fam_jax.explain(encode, images, watched.embeddings[::-1], fam_jax.chefer()).maps
    assert maps.shape == (2, 2, 3)
    assert maps.any((1, 2)).all()


def test_layers_are_in_the_order_of_the_blocks():
    model = nnx.eval_shape(lambda: pretrained_ports.create("vit-tiny-patch16").model)
    assert fam_jax.attention_layers(model) == tuple(f"blocks.{n}.attn.attn_drop" for n in range(12))


def test_signed_le_grad_reads_the_last_four_blocks():
    """Whatever else the encoding keeps; and less than what it would of all six."""
    variant = VARIANTS["vit-tiny-patch16"]._replace(patch=4, dim=24, depth=6, heads=2, grid=2)
    model = VisionTransformer(variant, rngs=nnx.Rngs(0))
    encode = fam_jax.capture(model, at="blocks.0", tokens=fam_jax.TokenGrid(prefix=1))
    layers = fam_jax.attention_layers(model)
    short, named, every = (
        fam_jax.le_grad(signed=True),
        fam_jax.le_grad(signed=True, layers=layers[-4:]),
        fam_jax.le_grad(signed=True, layers=layers),
    )
    images = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    enc, r = encode(images, short, every), encode(images[:, ::-1]).embeddings
    assert encode(images, short).layers.names == layers[-4:]
    assert_close(short(enc, r), named(enc, r))
    assert np.abs(short(enc, r) - every(enc, r)).max() > 0.1 * np.abs(short(enc, r)).max()


def test_several_methods_share_an_encoding(x64):
    """One forward pass that keeps the layers of all, in the network's order; each picks its own."""
    images, r = case(2, np.float64)
    enc = ENCODE(images, *METHODS.values())
    assert enc.layers.names == ("attn0", "qkv1", "attn1")
    for method in METHODS.values():
        assert_close(method(enc, r), explained(method, ENCODE, images, r), rtol=1e-12)


ELSEWHERE = fam_jax.capture(embed, at="qkv0", tokens=(0, None))


@pytest.mark.parametrize(
    ("method", "encode", "error", "message"),
    [
        (METHODS["chefer"], embed, TypeError, "tokens: this method reads tokens; expected"),
        (METHODS["chefer"], ELSEWHERE, ValueError, "7 tokens less a prefix"),
        (
            fam_jax.chefer(),
            ENCODE,
            ValueError,
            "is for transformers: .* no layer named 'attn_drop'",
        ),
        (
            fam_jax.chefer(layers=("attn9",)),
            ENCODE,
            ValueError,
            "met no layer 'attn9'; it met: qkv0",
        ),
        (fam_jax.attention_rollout(layers=("qkv1",)), ENCODE, ValueError, "layer 'qkv1' gives"),
        (
            fam_jax.chefer(layers=("qkv0",)),
            ENCODE,
            ValueError,
            "'qkv0' as it is, the encoder as a map",
        ),
        (
            fam_jax.grad_eclip(layers=LAYERS),
            ENCODE,
            ValueError,
            "queries, keys and values .* first, the layer 'attn0' gives",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(method, encode, error, message, unchecked):
    with pytest.raises(error, match=message):
        explained(method, encode, *case(2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fam_jax.le_grad("dot"), TypeError, "similarity: expected"),
        (lambda: fam_jax.grad_eclip(layers=("attn0",)), ValueError, "expected two of one block"),
        (
            lambda: METHODS["chefer"](ENCODE(*case(2)[:1]), case(2)[1]),
            ValueError,
            "reads other lay",
        ),
        (lambda: fam_jax.attention_layers(embed), TypeError, "model: expected a flax"),
        (
            lambda: fam_jax.attention_layers(nnx.Linear(1, 1, rngs=nnx.Rngs(0))),
            ValueError,
            "Linear has no layer named 'attn_drop'",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call()
