"""Checks of arguments: one line that says what was given and what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AnyArray = jax.Array | np.ndarray


def check_float(name: str, x: Any, axes: str) -> None:
    """Raise unless `x` is a floating-point array with as many axes as `axes` names.

    A name with a star stands for one axis or more.
    """
    if not isinstance(x, AnyArray):
        raise TypeError(f"{name}: expected an array [{axes}], got {type(x).__name__}")
    fewest = len(axes.split())
    if x.ndim < fewest or (x.ndim > fewest and "*" not in axes):
        raise ValueError(f"{name}: expected an array [{axes}], got shape {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floating-point numbers, got {x.dtype}")
    check_plain(name, x)


def check_plain(name: str, *arrays: Any) -> None:
    """Raise for NumPy arrays whose bytes are not their numbers: behind a mask, or reversed.

    JAX refuses them, too, but not where it has compiled for a plain array of that type and shape:
    there it reads the bytes as they lie.
    """
    check_unmasked(name, *arrays)
    for x in arrays:
        if isinstance(x, np.ndarray) and not x.dtype.isnative:
            native = x.dtype.newbyteorder("=").name
            raise TypeError(
                f"{name}: expected this machine's order of bytes, got {x.dtype}; "
                f"{name}.astype({native!r}) has it"
            )


def check_unmasked(name: str, *arrays: Any) -> None:
    """Raise for masked arrays: what is behind the mask would be taken as it is."""
    if any(isinstance(x, np.ma.MaskedArray) for x in arrays):
        raise TypeError(f"{name}: expected an array without a mask; {name}.filled(value) has none")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise unless `value` is one of `choices`; the message names the nearest."""
    choices = list(choices)
    if value not in choices:
        near = get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}{hint}")


def check_count(name: str, value: Any, most: int | None = None) -> None:
    """Raise unless `value` is a positive integer, at most `most`."""
    # Not `<=` alone: True is an integer, too.
    if type(value) is not int or value < 1 or (most is not None and value > most):
        expected = "a positive integer" if most is None else f"an integer from 1 to {most}"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def check_key(key: Any) -> None:
    """Raise unless `key` is a single `jax.random.key`."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key) or key.shape != ():
        got = type(key).__name__ if dtype is None else f"{dtype} of shape {key.shape}"
        raise TypeError(f"key: expected jax.random.key(seed), got {got}")


def wide(*arrays: AnyArray) -> tuple[jax.Array, ...]:
    """The arrays in float32, or in float64 if one of them is; whatever the promotion rules."""
    check_plain("array", *arrays)
    double = any(x.dtype == jnp.float64 for x in arrays)
    return tuple(jnp.asarray(x, jnp.float64 if double else jnp.float32) for x in arrays)
