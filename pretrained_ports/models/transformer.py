"""The transformer block that every ViT and text tower is made of, named as in timm.

x = x + ls1(attn(norm1(x)))
x = x + ls2(mlp(norm2(x)))
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage

_INIT = nnx.initializers.normal(0.02)


def linear(
    inputs: int, outputs: int, *, bias: bool = True, rngs: nnx.Rngs, param_dtype: DTypeLike
) -> nnx.Linear:
    """A linear layer in the type of its parameters."""
    return nnx.Linear(
        inputs, outputs, use_bias=bias, kernel_init=_INIT, param_dtype=param_dtype, rngs=rngs
    )


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + epsilon) scale + bias over the last axis, [... dim].

    In float32 at least: flax's own refuses bfloat16 under strict type promotion.
    """

    def __init__(
        self, dim: int, epsilon: float, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32
    ):
        self.scale = nnx.Param(jnp.ones(dim, param_dtype))
        self.bias = nnx.Param(jnp.zeros(dim, param_dtype))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Apply the layer."""
        x32 = wide(x)
        centred = x32 - x32.mean(-1, keepdims=True)
        y = (centred * jax.lax.rsqrt(self.variance(centred) + self.epsilon)).astype(x.dtype)
        return y * _row(self.scale[...], x) + _row(self.bias[...], x)

    def variance(self, centred: Float[Array, "*b c"]) -> Float[Array, "*b2 1"]:
        """What `centred` is divided by, squared."""
        return (centred * centred).mean(-1, keepdims=True)


def wide(x: Array) -> Array:
    """The array in float32, or in its own type if that is wider."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def _row(vector: Array, like: Array) -> Array:
    """A vector over the last axis of `like`, of the same rank."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def quick_gelu(x: Array) -> Array:
    """Give x sigmoid(1.702 x), the approximation that OpenAI's CLIP was trained with."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Array) -> Array:
    """Give x Phi(x), exact, by erf: jax's own takes erfc, three times as long on a processor."""
    x32 = wide(x)
    return (0.5 * x32 * (1 + jax.lax.erf(x32 * 0.5**0.5))).astype(x.dtype)


class Attention(nnx.Module):
    """Self-attention of [b n dim]; `causal` lets a token see only those up to itself.

    Where "attn_drop" is watched, or holds a layer, the attention matrices [b heads n n] pass
    through it; elsewhere there are none, and the output is the same to rounding.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        qkv_bias: bool = True,
        causal: bool = False,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.qkv = linear(dim, 3 * dim, bias=qkv_bias, **init)
        self.attn_drop = Stage()
        self.proj = linear(dim, dim, **init)
        self.heads = heads
        self.causal = causal

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Apply the layer."""
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        if self.attn_drop.is_identity:
            x = attended(q, k, v, causal=self.causal)
        else:
            x = self.attn_drop(attention(q, k, causal=self.causal)).astype(v.dtype) @ v
        return self.proj(x.swapaxes(1, 2).reshape(b, n, -1))


def attention(
    q: Float[Array, "b h q d"], k: Float[Array, "b h k d"], *, causal: bool = False
) -> Float[Array, "b h q k"]:
    """softmax(q k / sqrt(d)) for every head, in float32 at least."""
    return jax.nn.softmax(_scores(q, k, causal), axis=-1)


def attended(
    q: Float[Array, "b h q d"],
    k: Float[Array, "b h k d"],
    v: Float[Array, "b h k d"],
    *,
    causal: bool = False,
) -> Float[Array, "b h q d"]:
    """attention(q, k) v, divided by the softmax's sums after the product: d numbers a row, not k.

    On a processor `jax.nn.dot_product_attention` takes 1.5 times as long; on any device it is not
    fused unless one names cuDNN, and it rounds the softmax of float64 to float32.
    """
    scores = _scores(q, k, causal)
    if v.dtype.itemsize < 4:  # before the division, float16 may overflow
        return jax.nn.softmax(scores, axis=-1).astype(v.dtype) @ v
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    return (weights @ v) / weights.sum(-1, keepdims=True)


def _scores(q: Array, k: Array, causal: bool) -> Array:
    scores = wide((q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2))
    if not causal:
        return scores
    mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    return jnp.where(mask[None, None], scores, -jnp.inf)


class Mlp(nnx.Module):
    """fc2(act(fc1(x))): [... dim] -> [... hidden] -> [... dim]."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        act: Callable[[Array], Array] = gelu,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        self.fc1 = linear(dim, hidden, rngs=rngs, param_dtype=param_dtype)
        self.fc2 = linear(hidden, dim, rngs=rngs, param_dtype=param_dtype)
        self.act = act

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Apply the layer."""
        return self.fc2(self.act(self.fc1(x)))


class SwiGLU(nnx.Module):
    """fc2(silu(a) b), where a and b are the halves of fc1(x): [... dim] -> [... dim].

    Shazeer, "GLU Variants Improve Transformer" (2020).
    """

    def __init__(
        self, dim: int, hidden: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32
    ):
        self.fc1 = linear(dim, 2 * hidden, rngs=rngs, param_dtype=param_dtype)
        self.fc2 = linear(hidden, dim, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Apply the layer."""
        gate, value = jnp.split(self.fc1(x), 2, axis=-1)
        return self.fc2(jax.nn.silu(gate) * value)


class LayerScale(nnx.Module):
    """x gamma, a factor per channel (Touvron et al., "Going deeper with Image Transformers")."""

    def __init__(self, dim: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        self.gamma = nnx.Param(jnp.ones(dim, param_dtype))

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Scale every channel."""
        return x * _row(self.gamma[...], x)


class Block(nnx.Module):
    """One pre-norm transformer block, [b n dim] -> [b n dim].

    Args:
        dim: Channels.
        heads: Attention heads.
        hidden: Channels inside the MLP (each half of it for SwiGLU).
        epsilon: Of the layer norms.
        act: The MLP's activation; None for SwiGLU.
        qkv_bias: Whether queries, keys and values have biases.
        layer_scale: Whether there are `ls1` and `ls2`.
        causal: Whether a token sees only those up to itself.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        *,
        epsilon: float = 1e-6,
        act: Callable[[Array], Array] | None = gelu,
        qkv_bias: bool = True,
        layer_scale: bool = False,
        causal: bool = False,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.norm1 = LayerNorm(dim, epsilon, **init)
        self.attn = Attention(dim, heads, qkv_bias=qkv_bias, causal=causal, **init)
        self.ls1 = LayerScale(dim, **init) if layer_scale else Stage()
        self.norm2 = LayerNorm(dim, epsilon, **init)
        self.mlp = SwiGLU(dim, hidden, **init) if act is None else Mlp(dim, hidden, act, **init)
        self.ls2 = LayerScale(dim, **init) if layer_scale else Stage()

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Apply the block."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))
