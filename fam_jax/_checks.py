"""Checks of arguments: one line that says what was given and what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AnyArray = jax.Array | np.ndarray


def check_float(name: str, x: Any, axes: str) -> None:
    """Raise unless `x` is a floating-point array with as many axes as `axes` names."""
    if not isinstance(x, AnyArray):
        raise TypeError(f"{name}: expected an array [{axes}], got {type(x).__name__}")
    if x.ndim != len(axes.split()):
        raise ValueError(f"{name}: expected an array [{axes}], got shape {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floating-point numbers, got {x.dtype}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise unless `value` is one of `choices`; the message names the nearest."""
    choices = list(choices)
    if value not in choices:
        near = get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}{hint}")


def wide(*arrays: AnyArray) -> tuple[jax.Array, ...]:
    """The arrays in float32, or in float64 if one of them is; whatever the promotion rules."""
    double = any(x.dtype == jnp.float64 for x in arrays)
    return tuple(jnp.asarray(x, jnp.float64 if double else jnp.float32) for x in arrays)
