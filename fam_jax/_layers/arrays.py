"""Any callable as a pytree: its arrays are leaves, all else is static and compared by value."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial, register_dataclass


class Static:
    """A value for a pytree's static part, which must be hashable whatever the value is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        try:
            return self.value is other.value or bool(self.value == other.value)
        except ValueError:  # an array inside has no single truth
            return False

    def __hash__(self) -> int:
        return hash(Static)


def split(tree: Any) -> tuple[Any, Static]:
    """The tree with None for whatever is no array, and what `join` needs to put it back."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [leaf if _is_array(leaf) else None for leaf in leaves]
    rest = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
    return structure.unflatten(arrays), Static((structure, rest))


def join(arrays: Any, static: Static) -> Any:
    """The inverse of `split`: a new tree."""
    structure, rest = static.value
    pairs = zip(structure.flatten_up_to(arrays), rest, strict=True)
    return structure.unflatten([other if array is None else array for array, other in pairs])


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


@partial(register_dataclass, data_fields=["arrays"], meta_fields=["rest"])
@dataclass(frozen=True)
class Call:
    """A function with some of its arguments, as a pytree of the arrays among them."""

    arrays: Any
    rest: Static

    @classmethod
    def of(cls, fn: Callable, args: tuple = (), keywords: dict | None = None) -> "Call":
        """As `functools.partial(fn, *args, **keywords)`."""
        return cls(*split((fn, args, keywords or {})))

    def __call__(self, *args: Any) -> Any:
        """The function's value."""
        fn, first, keywords = join(self.arrays, self.rest)
        return fn(*first, *args, **keywords)

    @property
    def with_state(self) -> Callable:
        """The same arguments for the function's method `with_state`, if it has one."""
        fn, first, keywords = join(self.arrays, self.rest)
        return partial(fn.with_state, *first, **keywords)


def as_pytree(fn: Callable) -> Callable:
    """`fn` as a pytree of arrays: itself if it is one, else wrapped; equal for equal functions."""
    if isinstance(fn, partial) and not isinstance(fn, Partial):
        return Call.of(fn.func, fn.args, fn.keywords)
    return fn if all(map(_is_array, jax.tree.leaves(fn))) else Call.of(fn)
