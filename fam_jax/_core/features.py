"""A network cut in two at a layer: below it once per image, the head as often as wanted.

    images --cut--> Features --join--> x, z, pullback

Everything that crosses the layer belongs to the features: its output, and what goes around it
(a residual stream, a class token). So the head never needs the images again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr, Var, jaxpr_as_fun

from fam_jax._core.ending import Ending, ending
from fam_jax._core.leaf import Leaf
from fam_jax._core.mesh import kinds, vary_with
from fam_jax._core.programs import variables
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.tap import Tapped, tap, tap_name
from fam_jax._core.watch import check_embeddings, laid_out


@pytree_dataclass("image", "axes")
class Features:
    """What the head needs to know of a batch of images; a pytree of arrays [b, ...].

    Rows may be picked and repeated: `jax.tree.map(lambda x: x[rows], features)`.
    """

    values: tuple[Leaf[Array], ...]  # the layer's output, then whatever else crosses it
    image: tuple[tuple[int, ...], str]  # shape [H, W, c] and type of one
    axes: tuple[int, ...]  # where the network's own layout has the batch in each value


class _Halves(NamedTuple):
    """The program of a network for some batch, flat, and the values that cross its layer."""

    jaxpr: Jaxpr
    consts: list
    at: int  # the equation of the tap
    crossing: list[Var]  # the tapped value first
    below: set[Var]  # all that depends on the images, up to the tap


def _halves(network: Callable, at: str, layout: str, images: Any) -> _Halves:
    def run(x: Array) -> Array:
        # Binding the tap again leaves it at the top level of the new program.
        tapped = Tapped(network, (at,), laid_out(x, layout))
        v, needed, _ = tapped.run(lambda name, value: tap(value, name))
        return tapped.ending.embedding(v, needed)

    closed, output = jax.make_jaxpr(run, return_shape=True)(images)
    check_embeddings(output, images.shape[0])
    jaxpr = closed.jaxpr
    where = next(i for i, eqn in enumerate(jaxpr.eqns) if tap_name(eqn) == at)
    below = dict.fromkeys(jaxpr.invars)
    for eqn in jaxpr.eqns[: where + 1]:
        if not below.keys().isdisjoint(variables(eqn.invars)):
            below.update(dict.fromkeys(eqn.outvars))
    used = {v for eqn in jaxpr.eqns[where + 1 :] for v in variables(eqn.invars)}
    used.update(variables(jaxpr.outvars))
    tapped = jaxpr.eqns[where].outvars[0]
    others = [v for v in below if v in used and v is not tapped]
    return _Halves(jaxpr, closed.consts, where, [tapped, *others], set(below))


def _batch_axes(at: str, few: _Halves, more: _Halves, b: int) -> tuple[int, ...]:
    """Which axis of every crossing value is the batch: the one that grows with it, by as much."""
    axes = []
    for v, w in zip(few.crossing, more.crossing, strict=True):
        shapes = cast(ShapedArray, v.aval).shape, cast(ShapedArray, w.aval).shape
        grown = [i for i, (m, n) in enumerate(zip(*shapes, strict=True)) if m != n]
        if len(grown) != 1 or [shape[grown[0]] for shape in shapes] != [b, b + 1]:
            raise ValueError(
                f"a value of shape {shapes[0]} for {b} images, which crosses the layer {at!r}, is "
                "of no single image; take another layer"
            )
        axes.append(grown[0])
    return tuple(axes)


def cut(network: Callable, at: str, layout: str, images: Array) -> Features:
    """Run the network on images [b, H, W, c] up to its layer, and keep what crosses it."""
    halves = _halves(network, at, layout, images)
    one_more = ShapeDtypeStruct((images.shape[0] + 1, *images.shape[1:]), images.dtype)
    axes = _batch_axes(at, halves, _halves(network, at, layout, one_more), images.shape[0])
    jaxpr = halves.jaxpr
    part = jaxpr.replace(outvars=halves.crossing, eqns=jaxpr.eqns[: halves.at + 1])
    values = jaxpr_as_fun(ClosedJaxpr(part, halves.consts))(images)
    values = tuple(jnp.moveaxis(x, axis, 0) for x, axis in zip(values, axes, strict=True))
    return Features(values, (images.shape[1:], str(images.dtype)), axes)


def join(
    network: Callable, at: str, layout: str, features: Features
) -> tuple[Array, Callable, Ending]:
    """The layer's output x for the features, the head, and the norm it ends in.

    The head takes x to what enters the norm, and to what the norm needs beside.
    """
    (shape, dtype), rows = features.image, features.values[0].shape[0]
    # On a mesh the head's program is that of images which vary as the features do.
    images = kinds(
        lambda x: vary_with(jnp.zeros((rows, *shape), jnp.dtype(dtype)), x), features.values[0]
    )
    halves = _halves(network, at, layout, images)
    jaxpr = halves.jaxpr
    below, above = jaxpr.eqns[: halves.at], jaxpr.eqns[halves.at + 1 :]
    of_parameters = [eqn for eqn in below if halves.below.isdisjoint(eqn.outvars)]
    part = jaxpr.replace(invars=halves.crossing, eqns=of_parameters + above)
    end = ending(ClosedJaxpr(part, halves.consts))
    values = zip(features.values, features.axes, strict=True)
    x, *others = (jnp.moveaxis(value, 0, axis) for value, axis in values)
    return x, lambda x: end.outputs(jaxpr_as_fun(end.body)(x, *others))[:2], end
