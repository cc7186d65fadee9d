"""Several layers of a network at once: their outputs, and the embedding's gradients there.

z, pullback = jax.vjp(d -> network(images, x_1 + d_1, x_2 + d_2, ...), 0)
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from fam_jax._core.leaf import Leaf
from fam_jax._core.map_form import Form
from fam_jax._core.mesh import vary_with, varying_axes, zeros_like
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.tap import Tapped


@pytree_dataclass("at")
class Pull:
    """Cotangents [b, d] -> those of the watched values `at`, in their order."""

    pullback: Callable
    embeddings: Leaf[Float[Array, "b d"]]  # for their shape and type
    at: tuple[str, ...]

    def of(self, at: tuple[str, ...]) -> "Pull":
        """The cotangents of some of the values."""
        return replace(self, at=at)

    def one(self, at: str) -> Callable[[Array], Array]:
        """The cotangents of one of the values."""
        return Partial(_pull_one, self.of((at,)))

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
        (pulled,) = self.pullback(cotangent)
        return tuple(pulled[name] for name in self.at)


def _pull_one(pull: Pull, cotangent: Array) -> Array:
    (pulled,) = pull(cotangent)
    return pulled


@pytree_dataclass()
class Watched:
    """What was seen in one forward pass.

    The pullback gives (dz/dx_i)^T v of cotangents [b, d] for every layer, shaped like `values`.
    """

    values: tuple[Leaf[Array], ...]  # every layer's output x_i
    embeddings: Leaf[Float[Array, "b d"]]
    pullback: Leaf[Pull]
    state: Any = None  # what the network wrote into its own variables, where that was asked for


def run_watched(
    network: Callable,
    at: tuple[str, ...],
    images: Array,
    layout: str,
    forms: Mapping[str, Form] = MappingProxyType({}),
    with_state: bool = False,
    given: Array | None = None,
) -> Watched:
    """Run a network and watch what it taps at the names `at`.

    A value with a form is watched, and its cotangents come, as a map; `given` takes its place.
    """
    run = network.with_state if with_state else lambda x: (network(x), None)
    tapped = Tapped(run, at, laid_out(images, layout))
    check_embeddings(tapped.output[0], images.shape[0])

    def head(deltas: dict[str, Array]) -> tuple[Array, tuple[dict[str, Array], Any]]:
        values = {}

        def insert(name: str, x: Array) -> Array:
            values[name], put = watched(name, x)
            return put(values[name] + deltas[name])

        embeddings, state = tapped.run(insert)
        return embeddings, (values, state)

    def watched(name: str, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        """The value that is watched, and how a changed one takes its place."""
        if (form := forms.get(name)) is None:
            return x, lambda value: value
        return form.to_map(x) if given is None else form.checked(given, x), partial(form.put, x)

    # Like the values in all respects: a zero that did not vary over a `shard_map`'s mesh as they do
    # would have their cotangents summed over the devices.
    zeros = {
        name: zeros_like(jax.eval_shape(lambda x, name=name: watched(name, x)[0], x))
        for name, x in zip(at, tapped.values, strict=True)
    }
    embeddings, pullback, (values, state) = jax.vjp(head, zeros, has_aux=True)
    ordered = tuple(values[name] for name in at)
    return Watched(ordered, embeddings, Pull(pullback, embeddings, at), state)


def laid_out(images: Array, layout: str) -> Array:
    """Images [b, H, W, c] as the network takes them."""
    return images if layout == "NHWC" else jnp.moveaxis(images, -1, 1)


def check_embeddings(output: Any, batch: int) -> None:
    """Raise unless a network's output is [batch, d]."""
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != batch:
        got = f"shape {shape}" if shape is not None else type(output).__name__
        raise ValueError(
            f"the network must return embeddings [{batch}, d] for {batch} images, got {got}"
        )
