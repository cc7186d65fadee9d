"""Encoding: the activations A, the embedding z and the pullback v -> (dz/dA)^T v, in one pass.

    z, pullback = jax.vjp(d -> network(images, A + d), 0)

Only the head between A and z is differentiated; the network below costs its forward pass.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import jax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from fam_jax._core.brief import called
from fam_jax._core.ending import Ending, scale
from fam_jax._core.leaf import Leaf
from fam_jax._core.mesh import vary_with, varying_axes
from fam_jax._core.pytree import pytree_dataclass

# Which of a network's layers: their names, or a function that picks them out of all there are.
LayerChoice: TypeAlias = tuple[str, ...] | Callable[[tuple[str, ...]], tuple[str, ...]]


@pytree_dataclass("at")
class Pull:
    """Cotangents [b, d] -> those of the watched values `at`, in their order."""

    pullback: Callable  # of what enters the norm at the network's end
    embeddings: Leaf[Float[Array, "b d"]]  # for their shape and type
    at: tuple[str, ...]
    norm: Any = None  # the pullback of that norm; None if there is none

    def _words(self) -> str:
        return called(Pull, (), {"at": self.at})

    def one(self, at: str) -> Callable[[Array], Array]:
        """The cotangents of one of the values."""
        return Partial(_pull_one, replace(self, at=(at,)))

    def __call__(self, cotangent: Array) -> tuple[Array, ...]:
        """(dz/dx_i)^T v for every i."""
        if cotangent.shape != self.embeddings.shape:
            raise ValueError(
                f"pullback: expected cotangents {self.embeddings.shape} like the embeddings, "
                f"got shape {cotangent.shape}"
            )
        if extra := varying_axes(cotangent) - varying_axes(self.embeddings):
            axes = tuple(sorted(extra))
            raise ValueError(
                f"pullback: the cotangents vary over the mesh axes {axes} and the images do not; "
                f"encode jax.lax.pcast(images, {axes}, to='varying')"
            )
        cotangent = vary_with(cotangent.astype(self.embeddings.dtype), self.embeddings)
        cotangent = cotangent if self.norm is None else self.norm(cotangent)
        (pulled,) = self.pullback(cotangent)
        return tuple(pulled[name] for name in self.at)


def pulled(
    ending: Ending, v: Array, needed: list[Array], pullback: Callable, at: tuple[str, ...]
) -> tuple[Pull, Pull | None]:
    """The pullback of z from that of v; and the one with the norm between them held, if any."""
    if ending.norm is None:
        return Pull(pullback, v, at), None
    z, norm = jax.vjp(lambda v: ending.embedding(v, needed), v)
    pull = Pull(pullback, z, at, Partial(_first, norm))
    return pull, replace(pull, norm=Partial(_times, scale(v, z).astype(v.dtype)))


def _first(pullback: Callable, cotangent: Array) -> Array:
    return pullback(cotangent)[0]


def _times(scale: Array, cotangent: Array) -> Array:
    return scale * cotangent.astype(scale.dtype)


def _pull_one(pull: Pull, cotangent: Array) -> Array:
    (pulled,) = pull(cotangent)
    return pulled


@pytree_dataclass("names")
class Layers:
    """Outputs of several layers in one forward pass, and the embedding's gradients there.

    The pullback gives (dz/dx_i)^T v of cotangents [b, d] for every layer, shaped like `values`.
    """

    names: tuple[str, ...]
    values: tuple[Leaf[Array], ...]  # every layer's output x_i
    embeddings: Leaf[Float[Array, "b d"]]
    pullback: Leaf[Pull]
    held: Leaf[Pull | None] = None  # the same with the norm held that the network ends in
    state: Any = None  # what the network wrote into its own variables, where that was asked for

    def pick(self, choice: LayerChoice) -> "Layers":
        """Those of a choice, in its order."""
        names = chosen(choice, self.names)
        values = dict(zip(self.names, self.values, strict=True))
        values, pullback = tuple(values[n] for n in names), replace(self.pullback, at=names)
        held = None if self.held is None else replace(self.held, at=names)
        return replace(self, names=names, values=values, pullback=pullback, held=held)

    def split(self, cotangent: Array) -> tuple[Array, ...]:
        """The pullback of shares of the score; see `Encoding.split`."""
        return (self.held or self.pullback)(cotangent)


def chosen(choice: LayerChoice, names: tuple[str, ...]) -> tuple[str, ...]:
    """The layers of a choice among those there are."""
    return choice(names) if callable(choice) else choice


@pytree_dataclass("readings")
class Encoding:
    """What a method needs to know about a batch of images.

    Attributes:
        activations: A, [b, h, w, c] of images, [b, *space, c] with any number of axes.
        embeddings: z, [b, d].
        pullback: cotangents [b, d] -> [b, *space, c], the product with (dz/dA)^T.
        held: the same for a network that ends in z = v / |v|, with 1 / |v| constant: what splits
            the score over positions takes this, for of z itself nothing belongs to v's length.
            None for a network that ends in no norm.
        images: the inputs themselves, [b, H, W, c] or others, where a method reads them; else None.
        encoder: the `Encoder` that encoded them, where a method reads the images.
        layers: the `Layers` that a method reads beside `activations`.
        readings: the functions model -> model by which the network's layers read in another way,
            see `Method.network`; None for a network of plain functions, of which it is not known.
    """

    activations: Leaf[Float[Array, "b *space c"]]
    embeddings: Leaf[Float[Array, "b d"]]
    pullback: Leaf[Callable[[Float[Array, "b d"]], Float[Array, "b *space c"]]]
    held: Any = None
    images: Any = None
    encoder: Any = None
    layers: Any = None
    readings: frozenset[Callable] | None = None

    def split(self, cotangent: Array) -> Array:
        """The pullback of shares of the score: `held` if there is one, else `pullback`."""
        return (self.held or self.pullback)(cotangent)

    def _words(self) -> str:
        arrays = {name: getattr(self, name) for name in ("activations", "embeddings", "images")}
        return called(Encoding, (), {name: x for name, x in arrays.items() if x is not None})
