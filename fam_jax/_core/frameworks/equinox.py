"""equinox: a module is a pytree already; the layers' classes are exchanged in a copy of it."""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache, partial
from typing import Any

import equinox as eqx
from jax import Array

from fam_jax._core.frameworks.arrays import join, split
from fam_jax._core.frameworks.paths import (
    by_path,
    check_called,
    in_order,
    no_layer,
    tapped_class,
    warn_in_training,
)
from fam_jax._core.pytree import Static, pytree_dataclass

_tapped_class = lru_cache(tapped_class)  # every class of equinox is registered for good


@pytree_dataclass("rest", "at")
class _TappedModule:
    arrays: Any
    rest: Static
    at: tuple[str, ...]

    def _words(self) -> str:
        _, _, classes = self.rest.value  # outermost first, where wrappers are
        modules = [c for c in classes if c and issubclass(c, eqx.Module) and c.__name__[0] != "_"]
        own = (c for c in modules if not c.__module__.startswith("equinox."))
        return next(own, modules[0]).__name__

    def __call__(self, images: Array, **keywords: Any) -> Any:
        model = join(self.arrays, self.rest)  # new modules throughout
        for path, taps in by_path(self.at).items():
            layer = _find(_unwrapped(model), path)
            for at in taps:
                object.__setattr__(layer, "__class__", _tapped_class(type(layer), at))
        warn_in_training(*_training(_unwrapped(model)), "capture equinox.nn.inference_mode(model)")
        return model(images, **keywords)


def tapped(model: Any, args: tuple, at: tuple[str, ...]) -> _TappedModule | None:
    """An equinox module, a method of one, or `eqx.filter_vmap` of either; None for all else."""
    if args:
        return None
    if not isinstance(model, eqx.Module):
        hidden = inspect.unwrap(model)
        if isinstance(hidden, eqx.Module) and {*by_path(at)} <= {*_layers(_unwrapped(hidden))}:
            raise ValueError(
                "model: this function hides the module inside it; take equinox.filter_vmap in the "
                "place of jax.vmap, and no jax.jit (an encoder is compiled anyway)"
            )
        return None
    inside = _wrapped(_unwrapped(model))
    if isinstance(inside, partial) and isinstance(inside.func, eqx.Module):
        raise ValueError(
            "model: functools.partial hides the module inside it; take equinox.Partial in its place"
        )
    if inside is not None and not {*by_path(at)} <= {*_layers(_unwrapped(model))}:
        # A function of one's own: its taps are seen as those of any.
        return None
    check_called(at, partial(_find, _unwrapped(model)), _layers)
    arrays, rest = split(model)
    return _TappedModule(arrays, rest, at)


def _unwrapped(model: Any) -> Any:
    """The module inside a bound method, `eqx.filter_vmap`, `eqx.Partial`, ..."""
    while isinstance(inside := _wrapped(model), eqx.Module):
        if not any(inside is value for value in vars(model).values()):
            raise ValueError(
                "model: equinox.filter_jit hides the module inside it; leave it out (an encoder is "
                "compiled anyway)"
            )
        model = inside
    return model


def _wrapped(model: Any) -> Any:
    """What one of equinox's wrappers is around; None for what is no wrapper."""
    names = ("__self__", "__wrapped__", *(["func"] if isinstance(model, eqx.Partial) else []))
    return next((getattr(model, name) for name in names if hasattr(model, name)), None)


def _training(model: Any) -> tuple[list[str], list[str]]:
    """Layers in training mode: that take the batch's statistics, that draw at random."""
    layers = {path: _find(model, path) for path in _layers(model)}
    training = {path: x for path, x in layers.items() if vars(x).get("inference") is False}
    draws = {path: x for path, x in training.items() if isinstance(x, eqx.nn.Dropout)}
    return [path for path in training if path not in draws], [p for p, x in draws.items() if x.p]


def _find(model: Any, path: str) -> Any:
    node = model
    for name in path.split("."):
        node = dict(_children(node)).get(name)
    if not isinstance(node, eqx.Module):
        raise ValueError(no_layer(path, _layers(model)))
    return node


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, eqx.Module):
        yield from ((f.name, getattr(node, f.name, None)) for f in fields(node))
    elif isinstance(node, list | tuple | dict):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        yield from ((str(key), child) for key, child in items)


def _layers(model: Any) -> list[str]:
    def walk(node: Any, path: str) -> Iterator[str]:
        for name, child in _children(node):
            if isinstance(child, eqx.Module):
                yield path + name
            yield from walk(child, f"{path}{name}.")

    return in_order(list(walk(model, "")))
