"""Encoding: the activations A, the embedding z and the pullback v -> (dz/dA)^T v, in one pass.

    z, pullback = jax.vjp(d -> network(images, A + d), 0)

Only the head between A and z is differentiated; the network below costs its forward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial, register_dataclass
from jaxtyping import Array, Float

from fam_jax import _layers
from fam_jax._checks import AnyArray, check_float
from fam_jax._tap import Tapped, tap


@partial(register_dataclass, data_fields=["activations", "embeddings", "pullback"], meta_fields=[])
@dataclass(frozen=True)
class Encoding:
    """What a method needs to know about a batch of images.

    Attributes:
        activations: A, [b, h, w, c].
        embeddings: z, [b, d].
        pullback: cotangents [b, d] -> [b, h, w, c], the product with (dz/dA)^T.
    """

    # Any: between transformations the leaves of a pytree are whatever jax makes of them.
    activations: Any  # Float[Array, "b h w c"]
    embeddings: Any  # Float[Array, "b d"]
    pullback: Any  # Callable[[Float[Array, "b d"]], Float[Array, "b h w c"]]


@dataclass(frozen=True)
class TokenGrid:
    """Where the image patches are among a transformer's tokens [b, n, c].

    Attributes:
        prefix: tokens before the patches (class, distillation, registers).
        shape: rows and columns of the patches; None for a square grid, found from n.

    Example:
        >>> import fam_jax
        >>> fam_jax.TokenGrid(prefix=1).grid(197)
        (14, 14)
    """

    prefix: int = 0
    shape: tuple[int, int] | None = None

    def grid(self, tokens: int) -> tuple[int, int]:
        """Rows and columns for `tokens` tokens; ValueError if they do not fill them."""
        patches = tokens - self.prefix
        rows, columns = self.shape or (isqrt(max(patches, 0)),) * 2
        if patches < 1 or rows * columns != patches:
            raise ValueError(
                f"tokens: {tokens} tokens less a prefix of {self.prefix} do not fill a grid of "
                f"{rows} x {columns}; pass TokenGrid(prefix=..., shape=(rows, columns))"
            )
        return rows, columns


@partial(register_dataclass, data_fields=["network"], meta_fields=["at", "tokens"])
@dataclass(frozen=True)
class Encoder:
    """Images -> `Encoding`; made by `capture` or `encoder`. A pytree: parameters are its leaves.

    Compiled on its first call for a shape. The network is a pure function: what it would write
    into its own state (batch statistics, random streams) is dropped.
    """

    network: Callable[[Array], Array]
    at: str
    tokens: TokenGrid | None = None

    def __call__(self, images: Float[AnyArray, "b H W c"]) -> Encoding:
        """Encode a batch of images; see `Encoding`."""
        check_float("images", images, "batch height width channels")
        return _encode(self, images)


@jax.jit
def _encode(encode: Encoder, images: Array) -> Encoding:
    tapped = Tapped(encode.network, encode.at, images)
    _check_embeddings(tapped.output, images.shape[0])
    shape = _map_shape(tapped.value.shape, images.shape[0], encode)

    def head(delta: Array) -> tuple[Array, Array]:
        seen = []

        def insert(x: Array) -> Array:
            seen.append(x)
            return x + _to_layer(delta, x.shape, encode.tokens)

        return tapped.run(insert), seen[0]

    embeddings, pullback, x = jax.vjp(head, jnp.zeros(shape, tapped.value.dtype), has_aux=True)
    activations = x if encode.tokens is None else x[:, encode.tokens.prefix :].reshape(shape)
    return Encoding(activations, embeddings, Partial(_pull, pullback, embeddings))


def _pull(pullback: Callable, embeddings: Array, cotangent: Array) -> Array:
    if cotangent.shape != embeddings.shape:
        raise ValueError(
            f"pullback: expected cotangents {embeddings.shape} like the embeddings, "
            f"got shape {cotangent.shape}"
        )
    return pullback(cotangent.astype(embeddings.dtype))[0]


def _map_shape(shape: tuple[int, ...], batch: int, encode: Encoder) -> tuple[int, ...]:
    """[b, h, w, c] of the layer's output, or an error that says what to pass."""
    given = f"the layer {encode.at!r} gives an array of shape {shape}"
    if shape[0] != batch:
        raise ValueError(f"{given}: its first axis is not the batch of {batch} images")
    if encode.tokens is not None:
        if len(shape) != 3:
            raise ValueError(f"{given}; tokens= is for [batch, tokens, channels]")
        return (batch, *encode.tokens.grid(shape[1]), shape[2])
    if len(shape) == 4:
        return shape
    hint = "; pass tokens=fam_jax.TokenGrid(prefix=..., shape=...)" if len(shape) == 3 else ""
    raise ValueError(f"{given}; a map needs [batch, height, width, channels]{hint}")


def _to_layer(delta: Array, shape: tuple[int, ...], tokens: TokenGrid | None) -> Array:
    if tokens is None:
        return delta
    patches = delta.reshape(shape[0], -1, shape[2])
    return jnp.pad(patches, ((0, 0), (tokens.prefix, 0), (0, 0)))


def _check_embeddings(output: Any, batch: int) -> None:
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != batch:
        got = f"shape {shape}" if shape is not None else type(output).__name__
        raise ValueError(
            f"the network must return embeddings [{batch}, d] for {batch} images, got {got}"
        )


def as_pytree(fn: Callable) -> Callable:
    """`fn` as a pytree: itself if it is one, else a leafless wrapper compared by `fn`."""
    leaf = jax.tree_util.all_leaves([fn])
    return Partial(fn) if leaf else fn


def encoder(
    features: Callable[[Array], Array],
    head: Callable[[Array], Array],
    tokens: TokenGrid | None = None,
) -> Encoder:
    """An encoder from two pure functions: A = features(images), z = head(A).

    Args:
        features: images [b, H, W, C] -> activations [b, h, w, c] (or tokens, with `tokens`).
        head: activations -> embeddings [b, d].
        tokens: where the patches are, if `features` gives [b, n, c].

    Returns:
        An `Encoder`; functions that are pytrees (`jax.tree_util.Partial`, equinox modules) bring
        their arrays along as leaves.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda activations: activations.mean((1, 2)))
        >>> encode(jnp.ones((2, 4, 4, 3))).activations.shape
        (2, 4, 4, 3)
    """
    network = _Composition(as_pytree(features), as_pytree(head))
    return Encoder(network, at="activations", tokens=tokens)


@partial(register_dataclass, data_fields=["features", "head"], meta_fields=[])
@dataclass(frozen=True)
class _Composition:
    features: Callable
    head: Callable

    def __call__(self, images: Array) -> Array:
        return self.head(tap(self.features(images), "activations"))


def capture(model: Callable, at: str, tokens: TokenGrid | None = None) -> Encoder:
    """An encoder from a model and the name of one of its layers; the model stays as it is.

    Args:
        model: a `flax.nnx` module or one of its bound methods, used as it is now (no array is
            copied; make a new encoder after an update); or any pure function of
            images that calls `fam_jax.tap(x, at)`, whose parameters, if it holds any, should be
            its pytree leaves (`jax.tree_util.Partial`).
        at: the layer: a module path ("layer4", "layer4.2", "blocks.10") or a tap's name.
        tokens: where the image patches are, for layers that give tokens [b, n, c].

    Returns:
        An `Encoder`, images -> `Encoding`.

    Raises:
        ValueError: if there is no such layer (the message lists the layers there are).
        TypeError: if `model` cannot be called.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import fam_jax
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        ...     def __call__(self, images):
        ...         return nnx.relu(self.conv(images)).mean((1, 2))
        >>> encode = fam_jax.capture(Net(nnx.Rngs(0)), at="conv")
        >>> encode(jnp.ones((2, 16, 16, 3))).activations.shape
        (2, 16, 16, 8)
    """
    if not callable(model):
        raise TypeError(f"model: expected a module or a function, got {type(model).__name__}")
    if not isinstance(at, str):
        raise TypeError(f"at: expected a layer's name, got {type(at).__name__}")
    network = _layers.tapped_module(model, at) or as_pytree(model)
    return Encoder(network, at=at, tokens=tokens)
