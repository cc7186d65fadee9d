"""Any callable as a pytree: its arrays are leaves, all else is static and compared by value."""

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from fam_jax._core.brief import called
from fam_jax._core.frameworks.held import Path, State, held
from fam_jax._core.pytree import OURS, Static, classes, pytree_dataclass


def split(tree: Any) -> tuple[Any, Static]:
    """The tree with None for whatever is no array, and what `join` needs to put it back."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [leaf if isinstance(leaf, jax.Array | np.ndarray) else None for leaf in leaves]
    rest = tuple(o if array is None else None for o, array in zip(leaves, arrays, strict=True))
    return structure.unflatten(arrays), Static((structure, rest, classes(structure)))


def join(arrays: Any, static: Static) -> Any:
    """The inverse of `split`: a new tree."""
    structure, rest, _ = static.value
    pairs = zip(structure.flatten_up_to(arrays), rest, strict=True)
    return structure.unflatten([other if array is None else array for array, other in pairs])


@pytree_dataclass("rest", "state")
class Call:
    """A function with some of its arguments, as a pytree of the arrays among them and in it."""

    arrays: Any
    held: dict[Path, Any]
    rest: Static
    state: State

    def __hash__(self) -> int:
        return hash(self.rest)

    def _words(self) -> str:
        return called(*join(self.arrays, self.rest))

    @classmethod
    def of(cls, fn: Callable, args: tuple = (), keywords: dict | None = None) -> "Call":
        """As `functools.partial(fn, *args, **keywords)`."""
        arrays, rest = split((fn, args, keywords or {}))
        inside, values = held(rest.value[1])
        return cls(arrays, inside, rest, State(inside, values))

    def __call__(self, *args: Any, **more: Any) -> Any:
        """The function's value for the arrays that it held when this was made."""
        fn, first, keywords = join(self.arrays, self.rest)
        call = partial(fn, *first, **(keywords | more))
        now, values = held(self.rest.value[1])
        if all(now.get(path) is array for path, array in self.held.items()):
            self.state.traced(values, ())
            return call(*args)
        # Traced with the arrays that are there now; those of `held` take their places.
        paths = {id(array): path for path, array in now.items() if path in self.held}
        closed, shape = jax.make_jaxpr(call, return_shape=True)(*args)
        met = [paths.get(id(const)) for const in closed.consts]
        self.state.traced(values, filter(None, met))
        pairs = zip(closed.consts, met, strict=True)
        consts = [const if path is None else self.held[path] for const, path in pairs]
        outs = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), outs)

    @property
    def with_state(self) -> Callable:
        """The same arguments for the function's method `with_state`, if it has one."""
        fn, first, keywords = join(self.arrays, self.rest)
        return partial(fn.with_state, *first, **keywords)


@pytree_dataclass("fn", "options")
class Own:
    """A plain function of this package with options; it is not searched for what it holds."""

    fn: Callable
    arrays: dict[str, Any]
    options: tuple[tuple[str, Any], ...]

    def __hash__(self) -> int:
        return hash((self.fn, self.options))

    def _words(self) -> str:
        return called(self.fn, (), self.arrays | dict(self.options))

    def __call__(self, *args: Any) -> Any:
        return self.fn(*args, **self.arrays, **dict(self.options))


def as_pytree(fn: Callable) -> Callable:
    """`fn` as a pytree of arrays: itself if it is one, else wrapped; equal for equal functions."""
    inner, args, keywords = fn, (), {}
    if isinstance(fn, partial):
        inner, args, keywords = fn.func, fn.args, fn.keywords
    if _is_own(inner) and not args:
        arrays = {k: x for k, x in keywords.items() if isinstance(x, jax.Array | np.ndarray)}
        return Own(inner, arrays, tuple(x for x in keywords.items() if x[0] not in arrays))
    return fn if type(fn) in OURS else Call.of(inner, args, keywords)


def _is_own(fn: Callable) -> bool:
    ours = isinstance(fn, FunctionType) and str(fn.__module__).startswith("fam_jax.")
    return ours and inspect.unwrap(fn).__closure__ is None
