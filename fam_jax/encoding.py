"""Encoding: the activations A, the embedding z and the pullback v -> (dz/dA)^T v, in one pass.

    z, pullback = jax.vjp(d -> network(images, A + d), 0)

Only the head between A and z is differentiated; the network below costs its forward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import gcd, isqrt
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial, register_dataclass
from jaxtyping import Array, Float

from fam_jax._checks import AnyArray, check_choice, check_float
from fam_jax._layers import tapped_model
from fam_jax._layers.arrays import as_pytree
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
        shape: rows and columns of the patches; None for the grid that square patches of the
            images make.

    Example:
        >>> import fam_jax
        >>> fam_jax.TokenGrid(prefix=1).grid(197)
        (14, 14)
        >>> fam_jax.TokenGrid(prefix=1).grid(281, image=(224, 320))
        (14, 20)
    """

    prefix: int = 0
    shape: tuple[int, int] | None = None

    def grid(self, tokens: int, image: tuple[int, int] | None = None) -> tuple[int, int]:
        """Rows and columns for `tokens` tokens of an image [H, W]; None stands for a square one.

        Raises:
            ValueError: if the tokens do not fill `shape`, or no grid of the image's aspect.
        """
        patches = tokens - self.prefix
        rows, columns = self.shape or _grid_of(patches, *(image or (1, 1)))
        if patches < 1 or rows * columns != patches:
            grid = f"do not fill a grid of {rows} x {columns}"
            if self.shape is None:
                grid = "fill no " + ("square grid" if image is None else f"grid on {_by(image)}")
            raise ValueError(
                f"tokens: {tokens} tokens less a prefix of {self.prefix} {grid}; "
                "pass TokenGrid(prefix=..., shape=(rows, columns))"
            )
        return rows, columns


def _by(image: tuple[int, int]) -> str:
    return f"images of {image[0]} x {image[1]}"


def _grid_of(patches: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns with the image's aspect, exactly or as a patch size rounds it; or (0, 0).

    Both shrink as the patch grows, so no two grids of one image have the same number of patches.
    """
    unit = gcd(height, width)
    rows, columns = height // unit, width // unit
    times = isqrt(max(patches, 0) // (rows * columns))
    if times * times * rows * columns == patches:
        return times * rows, times * columns
    grids = ((height // patch, width // patch) for patch in range(1, min(height, width) + 1))
    return next((grid for grid in grids if grid[0] * grid[1] == patches), (0, 0))


def as_token_grid(tokens: Any) -> TokenGrid | None:
    """A `TokenGrid` from one, or from any tuple (prefix, shape)."""
    if tokens is None or isinstance(tokens, TokenGrid):
        return tokens
    if not isinstance(tokens, tuple) or len(tokens) != 2:
        raise TypeError(f"tokens: expected TokenGrid(prefix=..., shape=...), got {tokens!r}")
    prefix, shape = tokens
    return TokenGrid(prefix, None if shape is None else tuple(shape))


@partial(register_dataclass, data_fields=["network"], meta_fields=["at", "tokens", "layout"])
@dataclass(frozen=True)
class Encoder:
    """Images -> `Encoding`; made by `capture` or `encoder`. A pytree: parameters are its leaves.

    Compiled on its first call for a shape. The network is a pure function: what it would write
    into its own state (batch statistics, random streams) is dropped.
    """

    network: Callable[[Array], Array]
    at: str
    tokens: TokenGrid | None = None
    layout: str = "NHWC"

    def __call__(self, images: Float[AnyArray, "b H W c"]) -> Encoding:
        """Encode a batch of images; see `Encoding`."""
        check_float("images", images, "batch height width channels")
        return _encode(self, images)


@jax.jit
def _encode(encode: Encoder, images: Array) -> Encoding:
    given = images if encode.layout == "NHWC" else jnp.moveaxis(images, -1, 1)
    tapped = Tapped(encode.network, encode.at, given)
    _check_embeddings(tapped.output, images.shape[0])
    shape = _map_shape(tapped.value.shape, images.shape, encode)

    def head(delta: Array) -> tuple[Array, Array]:
        seen = []

        def insert(x: Array) -> Array:
            seen.append(x)
            return x + _to_layer(delta, x.shape, encode)

        return tapped.run(insert), seen[0]

    embeddings, pullback, x = jax.vjp(head, jnp.zeros(shape, tapped.value.dtype), has_aux=True)
    return Encoding(_to_map(x, shape, encode), embeddings, Partial(_pull, pullback, embeddings))


def _pull(pullback: Callable, embeddings: Array, cotangent: Array) -> Array:
    if cotangent.shape != embeddings.shape:
        raise ValueError(
            f"pullback: expected cotangents {embeddings.shape} like the embeddings, "
            f"got shape {cotangent.shape}"
        )
    return pullback(cotangent.astype(embeddings.dtype))[0]


def _map_shape(shape: tuple[int, ...], images: tuple[int, ...], encode: Encoder) -> tuple[int, ...]:
    """[b, h, w, c] of the layer's output, or an error that says what to pass."""
    batch = images[0]
    given = f"the layer {encode.at!r} gives an array of shape {shape}"
    if not shape or shape[0] != batch:
        raise ValueError(f"{given}: its first axis is not the batch of {batch} images")
    if encode.tokens is not None:
        if len(shape) != 3:
            raise ValueError(f"{given}; tokens= is for [batch, tokens, channels]")
        return (batch, *encode.tokens.grid(shape[1], images[1:3]), shape[2])
    if len(shape) == 4:
        return shape if encode.layout == "NHWC" else (batch, *shape[2:], shape[1])
    axes = "height, width, channels" if encode.layout == "NHWC" else "channels, height, width"
    hint = "; pass tokens=fam_jax.TokenGrid(prefix=..., shape=...)" if len(shape) == 3 else ""
    raise ValueError(f"{given}; a map needs [batch, {axes}]{hint}")


def _to_map(x: Array, shape: tuple[int, ...], encode: Encoder) -> Array:
    """The layer's output as activations [b, h, w, c]."""
    if encode.tokens is not None:
        return x[:, encode.tokens.prefix :].reshape(shape)
    return x if encode.layout == "NHWC" else jnp.moveaxis(x, 1, -1)


def _to_layer(delta: Array, shape: tuple[int, ...], encode: Encoder) -> Array:
    """A change of the activations as one of the layer's output."""
    if encode.tokens is None:
        return delta if encode.layout == "NHWC" else jnp.moveaxis(delta, -1, 1)
    patches = delta.reshape(shape[0], -1, shape[2])
    return jnp.pad(patches, ((0, 0), (encode.tokens.prefix, 0), (0, 0)))


def _check_embeddings(output: Any, batch: int) -> None:
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != batch:
        got = f"shape {shape}" if shape is not None else type(output).__name__
        raise ValueError(
            f"the network must return embeddings [{batch}, d] for {batch} images, got {got}"
        )


def encoder(
    features: Callable[[Array], Array],
    head: Callable[[Array], Array],
    tokens: TokenGrid | tuple | None = None,
) -> Encoder:
    """An encoder from two pure functions: A = features(images), z = head(A).

    Args:
        features: images [b, H, W, C] -> activations [b, h, w, c] (or tokens, with `tokens`).
        head: activations -> embeddings [b, d].
        tokens: where the patches are, if `features` gives [b, n, c]; see `capture`.

    Returns:
        An `Encoder`; functions that are pytrees (equinox modules) and `functools.partial` bring
        their arrays along as leaves.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda activations: activations.mean((1, 2)))
        >>> encode(jnp.ones((2, 4, 4, 3))).activations.shape
        (2, 4, 4, 3)
    """
    network = _Composition(as_pytree(features), as_pytree(head))
    return Encoder(network, at="activations", tokens=as_token_grid(tokens))


@partial(register_dataclass, data_fields=["features", "head"], meta_fields=[])
@dataclass(frozen=True)
class _Composition:
    features: Callable
    head: Callable

    def __call__(self, images: Array) -> Array:
        return self.head(tap(self.features(images), "activations"))


def capture(
    model: Callable, at: str, tokens: TokenGrid | tuple | None = None, layout: str = "NHWC"
) -> Encoder:
    """An encoder from a model and the name of one of its layers; the model stays as it is.

    Args:
        model: images -> embeddings, used as it is now (no array is copied; make a new encoder
            after an update). Its arrays become the encoder's leaves. One of:

            - a `flax.nnx` module;
            - a `flax.linen` module with its variables: `module.bind(variables)`, or
              `functools.partial(module.apply, variables)`;
            - an `equinox` module that takes a batch; `equinox.filter_vmap(module)` for one that
              takes an image. A module with a state (batch statistics) needs one around it that
              holds the state and calls it;
            - a built Keras 3 model, with KERAS_BACKEND=jax;
            - a method bound to one of these, or a `functools.partial` with its keywords
              (`train=False`);
            - a pure function that calls `fam_jax.tap(x, at)`; of its parameters, those that
              `functools.partial` or `jax.tree_util.Partial` hold are leaves.
        at: the layer: a path as the framework writes it, joined by dots ("layer4.2", "blocks.10",
            "Block_0.Conv_1", a Keras layer's name), or a tap's name.
        tokens: where the image patches are, for layers that give tokens [b, n, c]: a `TokenGrid`,
            or a tuple (prefix, shape).
        layout: "NCHW" for a model that takes images and gives maps channels first. The encoder
            itself takes and gives [b, h, w, c] all the same.

    Returns:
        An `Encoder`, images -> `Encoding`.

    Raises:
        ValueError: if there is no such layer (the message lists the layers there are; for linen,
            which makes them as it runs, on the first call).
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
    check_choice("layout", layout, ("NHWC", "NCHW"))
    network = tapped_model(model, at) or as_pytree(model)
    return Encoder(network, at=at, tokens=as_token_grid(tokens), layout=layout)
