"""Which rows of attention are read: those of the tokens that the embedding depends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from fam_jax.methods.attention import _rows
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS
from tests.close import assert_close
from tests.programs import on_devices

pytestmark = pytest.mark.numerics

B, HEADS, PREFIX, C = 8, 2, 3, 8  # a class token and two registers before 2 x 3 patches
N = PREFIX + 6
TOKENS = fam_jax.TokenGrid(PREFIX, (2, 3))
WEIGHTS = np.random.default_rng(0).normal(size=(2, C, 4 * C)) / np.sqrt(C)
HEAD_OF = {  # how the last tokens become the embedding, and the rows that it reads
    "class token": (lambda x: x[:, 0], [0]),
    "two tokens": (lambda x: x[:, :2].mean(1), [0, 1]),
    "patches": (lambda x: x[:, PREFIX:].mean(1), list(range(PREFIX, N))),
    "all tokens": (lambda x: x.mean(1), list(range(N))),
}
LAYERS = ("attn0", "attn1")
METHODS = {
    "rollout": fam_jax.attention_rollout(layers=LAYERS),
    "chefer": fam_jax.chefer(layers=LAYERS),
    "grad_eclip": fam_jax.grad_eclip(layers=("qkv1", "attn1")),
}
every_head = pytest.mark.parametrize("head", HEAD_OF)


def network(head):
    """Two blocks of attention with skips and layer norms, under one of the heads."""
    unit = lambda x: jax.nn.standardize(x, epsilon=1e-6)  # noqa: E731

    def embed(images):
        b, dtype = images.shape[0], images.dtype
        tokens = jnp.broadcast_to(jnp.linspace(-1, 1, C, dtype=dtype), (b, PREFIX, C))
        x = jnp.concatenate([tokens, images.reshape(b, 6, C)], 1)
        for n, weights in enumerate(jnp.asarray(WEIGHTS, dtype)):
            qkv = fam_jax.tap(unit(x) @ weights[:, : 3 * C], f"qkv{n}")
            q, k, v = qkv.reshape(b, N, 3, HEADS, -1).transpose(2, 0, 3, 1, 4)
            A = fam_jax.tap(jax.nn.softmax(q @ k.swapaxes(2, 3)), f"attn{n}")
            x = x + (A @ v).swapaxes(1, 2).reshape(b, N, C) @ weights[:, 3 * C :]
        return HEAD_OF[head][0](unit(x))

    return embed


def case(b=B):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(size=(b, 2, 3, C))), jnp.asarray(rng.normal(size=(b, C)))


def by_hand(head, images, r):
    """Every method for the rows that the head is known to read."""
    read = HEAD_OF[head][1]
    out = fam_jax.capture(network(head), at=("attn0", "attn1", "qkv1")).watch(images)
    norms = np.linalg.norm(out.embeddings, axis=1) * np.linalg.norm(r, axis=1)
    *dA, _ = map(np.asarray, out.pullback(r / norms[:, None]))
    *A, qkv = map(np.asarray, out.values)
    R, gained = np.eye(N)[None], np.eye(N)[None]
    for attention, gradient in zip(A, dA, strict=True):
        R = (attention.mean(1) + np.eye(N)) / 2 @ R
        gained = gained + np.maximum(attention * gradient, 0).mean(1) @ gained
    q, k, _ = np.split(qkv, 3, -1)
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k[:, PREFIX:]))
    near = q @ k.swapaxes(1, 2)
    low, high = near.min(-1, keepdims=True), near.max(-1, keepdims=True)
    pulls = (near - low) / (high - low) * dA[1].sum(1)[..., PREFIX:]
    maps = {
        "rollout": R[:, read].mean(1)[:, PREFIX:],
        "chefer": (gained - np.eye(N))[:, read].mean(1)[:, PREFIX:],
        "grad_eclip": np.maximum(pulls[:, read].mean(1), 0),
    }
    return {name: rows.reshape(-1, 2, 3) for name, rows in maps.items()}


@every_head
def test_the_rows_are_those_that_the_head_reads(head, x64):
    """A class token's alone; the patches' where they are pooled, whatever stands before them."""
    images, r = case()
    encode = fam_jax.capture(network(head), at="qkv0", tokens=TOKENS)
    enc = encode(images, *METHODS.values())
    for name, expected in by_hand(head, images, r).items():
        maps = METHODS[name](enc, r)
        assert maps.any((1, 2)).sum() >= (B // 2 if name == "grad_eclip" else B)
        assert_close(maps, expected, rtol=1e-10)


@pytest.fixture(scope="module")
def pooled():
    return fam_jax.capture(network("patches"), at="qkv0", tokens=TOKENS)


@pytest.mark.parametrize("name", METHODS)
def test_pooled_patches_on_devices_mapped_and_against_all(name, pooled, x64):
    images, r = case()
    method = METHODS[name]
    run = lambda images, r: fam_jax.explain(pooled, images, r, method).maps  # noqa: E731
    plain = jax.jit(run)(images, r)
    assert_close(on_devices(run, images, r), plain, rtol=1e-10)
    one = jax.jit(jax.vmap(lambda x, r: run(x[None], r[None])[0]))
    assert_close(one(images, r), plain, rtol=1e-10)
    every = fam_jax.explain_all(pooled, images, r, method).maps
    assert_close(every[jnp.arange(B), jnp.arange(B)], plain, rtol=1e-10)


class Pooled(VisionTransformer):
    """Compares the mean of the patches, and keeps its class token and registers."""

    def __call__(self, images):
        x = self.blocks(self.norm_pre(self._tokens(self.patch_embed(images))))
        return self.norm(x[:, self.variant.prefix :].mean(1))


def vit(kind=VisionTransformer, name="dinov2-small-reg4", dtype=jnp.float32):
    """A small one with layer scales, a class token and four registers."""
    variant = VARIANTS[name]._replace(patch=4, dim=24, depth=3, heads=2, grid=3)
    return kind(variant, rngs=nnx.Rngs(0), param_dtype=dtype)


PICTURES = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype(np.float32)
LAST = "blocks.2.attn.attn_drop"


@pytest.mark.parametrize(("dtype", "gates"), [("float32", "free"), ("bfloat16", "frozen")])
@pytest.mark.parametrize("kind", [VisionTransformer, Pooled])
def test_rows_that_are_not_read_are_told_exactly(kind, dtype, gates):
    encode = fam_jax.capture(vit(kind, dtype=dtype), at=(LAST,), gates=gates)
    rows = _rows(encode.watch(jnp.asarray(PICTURES, dtype)), jnp.float32)
    read = np.arange(14) >= 5 if kind is Pooled else np.arange(14) == 0
    expected = np.where(read, np.float32(1 / read.sum()), 0)
    assert np.array_equal(rows, np.tile(expected, (2, 1)))


def test_a_pooled_transformer_is_not_silent():
    encode = fam_jax.capture(vit(Pooled), at="blocks.2", tokens=fam_jax.TokenGrid(prefix=5))
    r = np.random.default_rng(1).normal(size=(2, 24)).astype(np.float32)
    for method in (fam_jax.attention_rollout(), fam_jax.chefer(), fam_jax.grad_eclip()):
        out = fam_jax.explain(encode, PICTURES, r, method)
        assert out.valid.all()
        assert out.maps.any((1, 2)).all()


@pytest.mark.parametrize("name", [*METHODS, "le_grad"])
def test_nothing_is_said_of_an_embedding_that_attention_does_not_reach(name):
    def embed(images):
        embedding = images.reshape(len(images), -1, C).sum(1)
        return embedding + 0 * network("class token")(images)

    encode = fam_jax.capture(embed, at="qkv0", tokens=TOKENS)
    images, r = (x.astype(jnp.float32) for x in case(2))
    method = METHODS.get(name, fam_jax.le_grad(layers=LAYERS))
    out = fam_jax.explain(encode, images, r, method)
    assert out.scores.all()
    assert not out.maps.any()
    assert not out.valid.any()


def test_early_layers_are_read_where_the_last_attention_is():
    """Of some of the layers alone, too, the class token's row: no other reaches the embedding."""
    model = vit()
    first, *_ = fam_jax.attention_layers(model)
    encode = fam_jax.capture(model, at="blocks.2", tokens=fam_jax.TokenGrid(prefix=5))
    method = fam_jax.attention_rollout(layers=(first,))
    enc = encode(PICTURES, method)
    assert enc.layers.names == (first, LAST)
    (A,) = enc.layers.pick((first,)).values
    r = enc.embeddings[::-1]
    assert_close(method(enc, r), A.mean(1)[:, 0, 5:].reshape(2, 3, 3) / 2)
    assert fam_jax.attention_rollout(layers=(first,)).layers == method.layers


def test_layers_stay_in_order_whichever_method_asks_first():
    """A method of late layers beside one of all: the product is still from the first block up."""
    model = vit()
    late = fam_jax.chefer(layers=fam_jax.attention_layers(model)[1:])
    rollout = fam_jax.attention_rollout()
    encode = fam_jax.capture(model, at="blocks.2", tokens=fam_jax.TokenGrid(prefix=5))
    enc, alone = encode(PICTURES, late, rollout), encode(PICTURES, rollout)
    assert_close(rollout(enc, enc.embeddings), rollout(alone, alone.embeddings))
