"""Arrays beside traced ones inside `jax.shard_map`: what must vary over the mesh as others do."""

from typing import Any

import jax
from jax import Array, ShapeDtypeStruct


def varying_axes(x: Any) -> frozenset[str]:
    """The mesh axes of a `shard_map` over which an array, or what describes one, varies."""
    kind = x if isinstance(x, ShapeDtypeStruct) else jax.typeof(x)
    manual = kind.manual_axis_type
    return frozenset() if manual is None else manual.varying


def vary_with(x: Array, *others: Any) -> Array:
    """The array x, varying over the mesh axes over which any of the others varies.

    A carry of a loop must; and so must what is differentiated by: the cotangent of a value that is
    one on all devices is summed over them.
    """
    axes = frozenset().union(*map(varying_axes, others)) - varying_axes(x)
    return jax.lax.pcast(x, tuple(sorted(axes)), to="varying") if axes else x
