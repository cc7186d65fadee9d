"""`tap`: name places in a function; `Tapped`: run the function with other values there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Shaped

from fam_jax._core.brief import message
from fam_jax._core.ending import ending
from fam_jax._core.mesh import kinds
from fam_jax._core.programs import CALLS, equations, evaluate, inside
from fam_jax._core.scans import hidden, opened

# The identity, with a name that survives tracing. A primitive rather than a context variable: a
# function that was already compiled by `jax.jit` keeps its taps, and nothing is left behind.
_tap_p = Primitive("tap")
_tap_p.def_impl(lambda x, *, name: x)
_tap_p.def_abstract_eval(lambda x, *, name: x)
mlir.register_lowering(_tap_p, lambda ctx, x, *, name: [x])
ad.deflinear2(_tap_p, lambda cotangent, x, *, name: [cotangent])


def _batch_tap(args, dims, *, name):
    # The mapped axis comes first, so that `vmap` of a function of one image taps [b, h, w, c].
    return _tap_p.bind(jnp.moveaxis(args[0], dims[0], 0), name=name), 0


batching.primitive_batchers[_tap_p] = _batch_tap


def tap(x: Shaped[Array, "..."], name: str) -> Shaped[Array, "..."]:
    """Name the value `x`, so that `fam_jax.capture(fn, at=name)` can find it; returns `x`.

    Costs nothing: it is the identity, and leaves no trace in the compiled program.

    Args:
        x: activations, [b, *space, c] or tokens [b, n, c]; inside a function of a single image that
            is mapped by `jax.vmap`, the same without b.
        name: what `capture` calls the place.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):
        ...     activations = fam_jax.tap(jnp.maximum(images, 0), "relu")
        ...     return activations.mean((1, 2))
        >>> encode = fam_jax.capture(embed, at="relu")
        >>> encode(jnp.ones((2, 4, 4, 3))).embeddings.shape
        (2, 3)
    """
    return _tap_p.bind(jnp.asarray(x), name=name)


def tap_name(eqn: JaxprEqn) -> str | None:
    """The name of the tap that an equation is; None if it is none."""
    return eqn.params["name"] if eqn.primitive is _tap_p else None


def tap_names(fn: Callable, images: Array) -> tuple[str, ...]:
    """The names of all taps that a function meets, in their order."""
    names = map(tap_name, equations(jax.make_jaxpr(fn)(images)))
    return tuple(dict.fromkeys(name for name in names if name is not None))


class NoLayerError(ValueError):
    """A name that no tap of the forward pass has."""


class Tapped:
    """A function traced for `images`, in which every one of `names` is the name of one tap."""

    def __init__(self, fn: Callable, names: tuple[str, ...], images: Array) -> None:
        closed, self.output = _traced(fn, images)
        closed = opened(closed, names, _tap_p)
        taps = [eqn for eqn in equations(closed) if eqn.primitive is _tap_p]
        avals = tuple(_only_tap(name, taps).outvars[0].aval for name in names)
        # Shapes, types, and how they lie on a mesh.
        self.values = kinds(lambda *values: values, *avals)
        self.ending = ending(closed)
        self._names, self._images = frozenset(names), images

    def run(self, insert: Callable[[str, Array], Array]) -> tuple[Array, list[Array], Any]:
        """Run it with every tapped value x replaced by `insert(name, x)`.

        Its first output as it enters the norm at the end, what that norm needs beside, and the
        other outputs; see `Ending`.
        """

        def instead(eqn: JaxprEqn) -> Callable | None:
            names = (
                tap_name(other) for other in (eqn, *(e for p in inside(eqn) for e in equations(p)))
            )
            name = next((name for name in names if name in self._names), None)
            if name is None:
                return None
            if eqn.primitive is _tap_p:
                return lambda x: [insert(name, x)]
            if eqn.primitive.name in CALLS:  # a tap in a call is reached by inlining it
                return lambda *args: evaluate(inside(eqn)[0], args, instead)
            raise ValueError(hidden(name, eqn))

        v, needed, others = self.ending.outputs(evaluate(self.ending.body, [self._images], instead))
        return v, needed, jax.tree.unflatten(jax.tree.structure(self.output), [v, *others])


def _traced(fn: Callable, images: Array) -> tuple[Any, Any]:
    try:
        return jax.make_jaxpr(fn, return_shape=True)(images)
    except Exception as error:
        if images.ndim == 4:  # a fault of the network's own
            raise
        raise ValueError(
            f"images: the network takes no array of shape {images.shape}, the first axis being the "
            f"batch: {message(error)}"
        ) from error


def _only_tap(name: str, taps: list[JaxprEqn]) -> JaxprEqn:
    matches = [eqn for eqn in taps if eqn.params["name"] == name]
    if not matches:
        met = ", ".join(dict.fromkeys(eqn.params["name"] for eqn in taps))
        raise NoLayerError(
            f"the forward pass met no layer {name!r}; it met: "
            + (met or "none (name one with fam_jax.tap(x, name))")
        )
    if len(matches) > 1:
        raise ValueError(
            f"the layer {name!r} runs {len(matches)} times in one forward pass; "
            "take a layer that runs once"
        )
    return matches[0]
