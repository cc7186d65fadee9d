"""How a layer's output is a map [b, h, w, c]."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.tokens import TokenGrid


@dataclass(frozen=True)
class Form:
    """How the output of the layer `at` for `images`, (b, H, W), is a map [b, h, w, c]."""

    at: str
    images: tuple[int, ...]
    tokens: TokenGrid | None
    layout: str

    def to_map(self, x: Array) -> Array:
        """The layer's output as activations [b, h, w, c], or an error that says what to pass."""
        batch, height, width = self.images
        given = f"the layer {self.at!r} gives an array of shape {x.shape}"
        if not x.ndim or x.shape[0] != batch:
            raise ValueError(f"{given}: its first axis is not the batch of {batch} images")
        if self.tokens is not None:
            if x.ndim != 3:
                raise ValueError(f"{given}; tokens= is for [batch, tokens, channels]")
            grid = self.tokens.grid(x.shape[1], (height, width))
            return x[:, self.tokens.prefix :].reshape(batch, *grid, x.shape[2])
        if x.ndim == 4:
            return x if self.layout == "NHWC" else jnp.moveaxis(x, 1, -1)
        axes = "height, width, channels" if self.layout == "NHWC" else "channels, height, width"
        hint = "; pass tokens=fam_jax.TokenGrid(prefix=..., shape=...)" if x.ndim == 3 else ""
        raise ValueError(f"{given}; a map needs [batch, {axes}]{hint}")

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
        if self.tokens is None:
            return activations if self.layout == "NHWC" else jnp.moveaxis(activations, -1, 1)
        patches = activations.reshape(x.shape[0], -1, x.shape[2])
        return jnp.concatenate([x[:, : self.tokens.prefix], patches], axis=1)
