"""One network of a scan over its layers, in every framework, and with a name for each layer."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

import fam_jax

DEPTH, WIDTH = 4, 8
IMAGES = jax.random.normal(jax.random.key(0), (3, 2, 5, WIDTH))
WEIGHTS = jax.random.normal(jax.random.key(1), (DEPTH, WIDTH, WIDTH)) / 3


def block(x, w):
    """A layer with something to freeze and a way around it."""
    y = fam_jax.tap(jax.nn.gelu(x @ w), "block.mlp")
    return fam_jax.tap(x + y, "block")


def head(x):
    return x.mean((1, 2))


def unrolled(weights, x, order=range(DEPTH)):
    """The same with a name for every step; the taps of the block itself are left as they are."""
    for i in order:
        y = fam_jax.tap(jax.nn.gelu(x @ weights[i]), f"block{i}.mlp")
        x = fam_jax.tap(x + y, f"block{i}")
    return head(x)


def step(x, w):
    return block(x, w), x.mean((1, 2, 3))


def plain(weights, x, **options):
    x, sums = jax.lax.scan(step, x, weights, **options)
    return head(x) + 0 * sums.sum(0)[:, None]


def counted(weights, x):
    return head(jax.lax.fori_loop(0, DEPTH, lambda i, x: block(x, weights[i]), x))


def rematerialised(weights, x):
    return head(jax.lax.scan(jax.checkpoint(step), x, weights)[0])


@jax.jit
def compiled(weights, x):
    return plain(weights, x)


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        w = self.param("w", linen.initializers.zeros, (WIDTH, WIDTH))
        return x + Gelu(name="mlp")(x @ w), None


class Gelu(linen.Module):
    def __call__(self, x):
        return jax.nn.gelu(x)


class Linen(linen.Module):
    remat: bool = False

    @linen.compact
    def __call__(self, x):
        kind = linen.remat(LinenBlock, prevent_cse=False) if self.remat else LinenBlock
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        return head(linen.scan(kind, length=DEPTH, **axes)(name="block")(x, None)[0])


def of_linen(weights, remat=False):
    return partial(Linen(remat).apply, {"params": {"block": {"w": weights}}})


class Mlp(nnx.Module):
    def __init__(self, w):
        self.w = nnx.Param(w)

    def __call__(self, x):
        return jax.nn.gelu(x @ self.w[...])


class NnxBlock(nnx.Module):
    def __init__(self, w):
        self.mlp = Mlp(w)

    def __call__(self, x):
        return x + self.mlp(x)


class Nnx(nnx.Module):
    def __init__(self, weights):
        self.block = nnx.vmap(NnxBlock)(weights)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, block):
            return block(x)

        return head(run(x, self.block))


class EqxMlp(eqx.Module):
    w: jax.Array

    def __call__(self, x):
        return jax.nn.gelu(x @ self.w)


class EqxBlock(eqx.Module):
    mlp: EqxMlp

    def __call__(self, x):
        return x + self.mlp(x)


class Equinox(eqx.Module):
    block: EqxBlock

    def __init__(self, weights):
        self.block = EqxBlock(EqxMlp(weights))

    def __call__(self, x):
        arrays, rest = eqx.partition(self.block, eqx.is_array)
        return head(jax.lax.scan(lambda x, a: (eqx.combine(a, rest)(x), None), x, arrays)[0])


def of(fn, **options):
    return lambda weights: partial(fn, weights, **options)


MODELS = {
    "lax.scan": of(plain),
    "unrolled by two": of(plain, unroll=2),
    "rematerialised": of(rematerialised),
    "compiled": of(compiled),
    "fori_loop": of(counted),
    "linen": of_linen,
    "linen, remat": partial(of_linen, remat=True),
    "nnx": Nnx,
    "equinox": Equinox,
}


def all_of(encode, images=IMAGES):
    enc = encode(images)
    return enc.activations, enc.embeddings, enc.pullback(enc.embeddings)


def assert_same(found, expected):
    """Relative to the largest: two programs of the same sums in float32."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * float(jnp.abs(b).max()), rtol=0)
