"""The parameters of a network by module path: their shapes, their values, their type."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

Shapes = Mapping[str, tuple[int, ...]]


def parameters(model: nnx.Module) -> dict[str, jax.Array | jax.ShapeDtypeStruct]:
    """Module path -> array (or its abstract shape), for parameters and batch statistics.

    Examples:
        >>> [(k, v.shape) for k, v in parameters(nnx.Linear(2, 3, rngs=nnx.Rngs(0))).items()]
        [('bias', (3,)), ('kernel', (2, 3))]
    """
    state = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {_path(path): variable.get_value() for path, variable in state}


def fill(model: nnx.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Put an array at every module path of a model.

    Args:
        model: Any module, abstract (`nnx.eval_shape`) or not; changed in place.
        arrays: Module path -> array of the parameter's shape, for every parameter.

    Examples:
        >>> model = nnx.eval_shape(lambda: nnx.Linear(2, 1, rngs=nnx.Rngs(0)))
        >>> fill(model, {"kernel": np.ones((2, 1), "f"), "bias": np.zeros(1, "f")})
        >>> model(jnp.ones((1, 2))).tolist()
        [[2.0]]
    """
    values = jax.device_put(dict(arrays))  # `jnp.asarray` compiles a program for every shape
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    filled = [
        (parts, variable.replace(values[_path(parts)]))
        for parts, variable in nnx.to_flat_state(state)
    ]
    nnx.update(model, nnx.from_flat_state(filled))


def check_dtype(param_dtype: DTypeLike) -> None:
    """Refuse float64 where jax would quietly make float32 of it."""
    if jnp.dtype(param_dtype) == jnp.float64 and jnp.result_type(float) != jnp.float64:
        raise ValueError('param_dtype float64 needs jax.config.update("jax_enable_x64", True)')


def _path(parts: tuple) -> str:
    return ".".join(map(str, parts))
