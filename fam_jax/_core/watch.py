"""Several layers at once: their outputs, as they are or as maps, and the gradients there.

z, pullback = jax.vjp(d -> network(images, x_1 + d_1, x_2 + d_2, ...), 0)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fam_jax._core import axes
from fam_jax._core.encoding import Layers, pulled
from fam_jax._core.mesh import kinds, zeros_like
from fam_jax._core.tap import Tapped
from fam_jax._core.tokens import TokenGrid

_AXES = {1: "positions", 2: "height, width", 3: "depth, height, width"}


@dataclass(frozen=True)
class Form:
    """How the output of the layer `at` for inputs of shape `images` is a map [b, *space, c].

    One that keeps the inputs' axes is a map, and so is [b, n, c] of inputs [b, n]; tokens [b, n, c]
    of inputs with more axes lie on the grid that `tokens` says.
    """

    at: str
    images: tuple[int, ...]
    tokens: TokenGrid | None
    layout: str

    def to_map(self, x: Array) -> Array:
        """The layer's output as activations [b, *space, c], or an error that says what to pass."""
        batch, sides = self.images[0], axes.sides(self.images)
        given = f"the layer {self.at!r} gives an array of shape {x.shape}"
        if not x.ndim or x.shape[0] != batch:
            raise ValueError(f"{given}: its first axis is not the batch of {batch} images")
        if x.ndim == 3 and self.tokens is not None:
            grid = self.tokens.grid(x.shape[1], sides)
            return x[:, self.tokens.prefix :].reshape(batch, *grid, x.shape[2])
        if x.ndim >= len(sides) + 2 or (x.ndim > 3 and self.tokens is not None):
            x = self._laid(x)  # a transformer's patches before they are tokens, too
            if self._is_of_patches(x.shape[1:-1], sides):
                return x
            raise ValueError(
                f"{given}, which is no map of the patches of {' x '.join(map(str, sides))} pixels; "
                "tokens= is for [batch, tokens, channels]"
            )
        names = _AXES.get(len(sides), "...")
        named = f"{names}, channels" if self.layout == "NHWC" else f"channels, {names}"
        hint = "; pass tokens=fam_jax.TokenGrid(prefix=..., shape=...)" if x.ndim >= 3 else ""
        either = " or [batch, tokens, channels]" if self.tokens is not None else ""
        raise ValueError(f"{given}; a map needs [batch, {named}]{either}{hint}")

    def _laid(self, x: Array) -> Array:
        return x if self.layout == "NHWC" else jnp.moveaxis(x, 1, -1)

    def _is_of_patches(self, grid: tuple[int, ...], sides: tuple[int, ...]) -> bool:
        # A guess of the grid is one of an image's; a map of a volume is what it is.
        if self.tokens is None or (self.tokens.shape is None and len(sides) != 2):
            return True
        return self.tokens.is_of(grid, sides)

    def checked(self, activations: Array, x: Array) -> Array:
        """Activations that are to take the place of the layer's output x, in its type."""
        shape = jax.eval_shape(self.to_map, x).shape
        if activations.shape != shape:
            raise ValueError(
                f"activations: expected {shape}, as the layer {self.at!r} gives them, got "
                f"{activations.shape}"
            )
        return activations.astype(x.dtype)

    def put(self, x: Array, activations: Array) -> Array:
        """The layer's output x with `activations` in the place of its map."""
        if x.ndim > 3 or self.tokens is None:
            return activations if self.layout == "NHWC" else jnp.moveaxis(activations, -1, 1)
        patches = activations.reshape(x.shape[0], -1, x.shape[2])
        return jnp.concatenate([x[:, : self.tokens.prefix], patches], axis=1)


def run_watched(
    network: Callable,
    at: tuple[str, ...],
    images: Array,
    layout: str,
    forms: Mapping[str, Form] = MappingProxyType({}),
    with_state: bool = False,
    given: Array | None = None,
) -> Layers:
    """Run a network and watch what it taps at the names `at`.

    A value with a form is watched, and its cotangents come, as a map; `given` takes its place.
    """
    run = network.with_state if with_state else lambda x: (network(x), None)
    tapped = Tapped(run, at, laid_out(images, layout))
    check_embeddings(tapped.output[0], images.shape[0])

    def head(deltas: dict[str, Array]) -> tuple[Array, tuple]:
        values = {}

        def insert(name: str, x: Array) -> Array:
            values[name], put = watched(name, x)
            return put(values[name] + deltas[name])

        v, needed, (_, state) = tapped.run(insert)
        return v, (values, needed, state)

    def watched(name: str, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        """The value that is watched, and how a changed one takes its place."""
        if (form := forms.get(name)) is None:
            return x, lambda value: value
        return form.to_map(x) if given is None else form.checked(given, x), partial(form.put, x)

    # Like the values in all respects: a zero that did not vary over a `shard_map`'s mesh as they do
    # would have their cotangents summed over the devices.
    zeros = {
        name: zeros_like(kinds(lambda x, name=name: watched(name, x)[0], x))
        for name, x in zip(at, tapped.values, strict=True)
    }
    v, pullback, (values, needed, state) = jax.vjp(head, zeros, has_aux=True)
    pull, held = pulled(tapped.ending, v, needed, pullback, at)
    ordered = tuple(values[name] for name in at)
    return Layers(at, ordered, pull.embeddings, pull, held, state)


def laid_out(images: Array, layout: str) -> Array:
    """Inputs [b, *space, c] as the network takes them."""
    return images if layout == "NHWC" else jnp.moveaxis(images, -1, 1)


def check_embeddings(output: Any, batch: int) -> None:
    """Raise unless a network's output is [batch, d]."""
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != batch:
        got = f"shape {shape}" if shape is not None else type(output).__name__
        raise ValueError(
            f"the network must return embeddings [{batch}, d] for {batch} images, got {got}"
        )
