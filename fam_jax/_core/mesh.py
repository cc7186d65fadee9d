"""Arrays beside traced ones on a mesh: they must lie, and vary in `shard_map`, as those do."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct
from jax.core import Tracer


def zeros_like(kind: ShapeDtypeStruct) -> Array:
    """Zeros of this kind in all respects: shape, type, and how it lies on the mesh."""
    zeros = jnp.zeros_like(kind)
    # jax 0.12 forgets the axes of an explicit mesh that is not set as the context.
    lost = kind.sharding is not None and jax.typeof(zeros).sharding != kind.sharding
    return jax.sharding.reshard(zeros, kind.sharding) if lost else zeros


def shards(x: Any) -> int:
    """Into how many parts the first axis of an array is divided over devices, if that is known."""
    if not isinstance(x, jax.Array) or not x.shape or not x.shape[0]:
        return 1
    if not isinstance(x, Tracer):
        return x.shape[0] // x.sharding.shard_shape(x.shape)[0]
    sharding: Any = jax.typeof(x).sharding  # of the axes of an explicit mesh
    axes = sharding.spec[0] if sharding.spec else None
    names = axes if isinstance(axes, tuple) else (axes,)
    return math.prod(sharding.mesh.shape[name] for name in names if name)


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
