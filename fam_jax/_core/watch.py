"""Several layers of a network at once: their outputs, and the embedding's gradients there.

z, pullback = jax.vjp(d -> network(images, x_1 + d_1, x_2 + d_2, ...), 0)
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fam_jax._core.encoding import Layers, Pull
from fam_jax._core.map_form import Form
from fam_jax._core.mesh import zeros_like
from fam_jax._core.tap import Tapped


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
    return Layers(at, ordered, embeddings, Pull(pullback, embeddings, at), state)


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
