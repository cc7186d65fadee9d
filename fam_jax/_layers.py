"""Paths into flax.nnx modules, and the pure function that taps the module at one."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import jax
from jax import Array
from jax.tree_util import register_dataclass

from fam_jax._tap import tap


@partial(register_dataclass, data_fields=["state"], meta_fields=["graph", "at", "method"])
@dataclass(frozen=True)
class _TappedModule:
    """A flax.nnx module split into graph and state, run with the layer `at` tapped."""

    graph: Any
    state: Any
    at: str
    method: str

    def __call__(self, images: Array) -> Array:
        from flax import nnx

        model = nnx.merge(self.graph, self.state, copy=True)
        # The class of this copy's layer is exchanged, so that the layer keeps its place, its
        # attributes and its sharing; the model it was copied from is not touched.
        layer = find(model, self.at)
        kind = type(layer)
        layer.__class__ = type(kind)(
            kind.__name__, (kind,), {"__call__": _tapped_call(kind.__call__, self.at)}
        )
        return getattr(model, self.method)(images)


def _tapped_call(call: Callable, name: str) -> Callable:
    def __call__(self, *args, **kwargs):  # noqa: N807
        out = call(self, *args, **kwargs)
        if not hasattr(out, "shape"):
            raise ValueError(
                f"the layer {name!r} gives a {type(out).__name__}, not one array; "
                "take a layer inside it"
            )
        return tap(out, name)

    return __call__


def tapped_module(model: Any, at: str) -> _TappedModule | None:
    """The model as a pure function with `at` tapped; None if it is not a flax.nnx module.

    Raises:
        ValueError: if the module has no layer `at`.
    """
    nnx = sys.modules.get("flax.nnx")  # a model of flax.nnx cannot exist before its import
    if nnx is None:
        return None
    owner, method = model, "__call__"
    if isinstance(getattr(model, "__self__", None), nnx.Module):
        owner, method = model.__self__, model.__name__
    if not isinstance(owner, nnx.Module):
        return None
    layer = find(owner, at)
    if not callable(layer):
        inside = f"; it holds: {', '.join(_children(layer))}" if _children(layer) else ""
        raise ValueError(f"the layer {at!r} is a {type(layer).__name__} that is not called{inside}")
    graph, state = nnx.split(owner)
    # New variables around the same arrays: an encoder does not follow later updates of the model.
    return _TappedModule(graph, jax.tree.map(lambda array: array, state), at, method)


def find(model: Any, path: str) -> Any:
    """The submodule at a path such as "layer4.2"; ValueError with the layers there are."""
    from flax import nnx

    node = model
    for name in path.split("."):
        try:
            if isinstance(node, list | tuple | nnx.List):
                node = node[int(name)]
            elif isinstance(node, dict):
                node = node[name]
            else:
                node = getattr(node, name)
        except (AttributeError, KeyError, IndexError, ValueError):
            raise ValueError(_no_layer(model, path)) from None
    if not isinstance(node, nnx.Module | list | tuple | dict):
        raise ValueError(_no_layer(model, path))
    return node


def layers(model: Any) -> list[str]:
    """Paths of every submodule of a flax.nnx module, from the input of the tree downwards."""
    from flax import nnx

    paths = [".".join(map(str, path)) for path, _ in nnx.iter_modules(model) if path]
    return sorted(paths, key=lambda path: [_natural(part) for part in path.split(".")])


def _natural(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdigit() else (-1, part)


def _children(module: Any) -> list[str]:
    return [path for path in layers(module) if "." not in path]


def _no_layer(model: Any, path: str) -> str:
    every = layers(model)
    top = [name for name in every if "." not in name]
    near = [name for name in get_close_matches(path, every, n=3) if name not in top]
    also = f" (and within: {', '.join(near)})" if near else ""
    return f"no layer {path!r}; this model has: {', '.join(top)}{also}"
