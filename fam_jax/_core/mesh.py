"""Arrays beside traced ones on a mesh: they must lie, and vary in `shard_map`, as those do."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct
from jax.core import ShapedArray, Tracer
from jax.sharding import AxisType


def kinds(fn: Callable, *args: Any) -> Any:
    """What `jax.eval_shape` says of a function, and how its arrays lie and vary on any mesh.

    Which that forgets where only some axes of a `shard_map`'s mesh are manual.
    """
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    return jax.tree.unflatten(jax.tree.structure(shapes), closed.out_avals)


def zeros_like(kind: Any) -> Array:
    """Zeros of a kind in all respects: shape, type, how it lies on the mesh and varies there."""
    zeros = vary_over(varying_axes(kind), jnp.zeros(kind.shape, kind.dtype))
    # jax 0.12 forgets the axes of an explicit mesh that is not set as the context.
    explicit = AxisType.Explicit in kind.sharding.mesh.axis_types
    lost = explicit and jax.typeof(zeros).sharding != kind.sharding
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
    kind = x if isinstance(x, ShapeDtypeStruct | ShapedArray) else jax.typeof(x)
    manual = kind.manual_axis_type
    return frozenset() if manual is None else manual.varying


def vary_with(x: Array, *others: Any) -> Array:
    """The array x, varying over the mesh axes over which any of the others varies.

    A carry of a loop must; and so must what is differentiated by: the cotangent of a value that is
    one on all devices is summed over them.
    """
    return vary_over(frozenset().union(*map(varying_axes, others)), x)


def vary_over(axes: frozenset[str], x: Array) -> Array:
    """The array x, varying over these axes as well."""
    axes = axes - varying_axes(x)
    return jax.lax.pcast(x, tuple(sorted(axes)), to="varying") if axes else x
