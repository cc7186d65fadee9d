"""Layers of models as they are: paths into them, and pure functions that tap them there."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import FunctionType
from typing import Any

from jax import Array

from fam_jax._core.frameworks.arrays import Call, join
from fam_jax._core.outputs import Chosen
from fam_jax._core.tap import NoLayerError, tap_names

# A model cannot exist before its framework's import, so none is imported here. Keras comes first:
# its layers may be modules of flax.nnx as well.
_FRAMEWORKS = {
    "keras": "Layer",
    "equinox": "Module",
    "haiku": "Module",
    "flax.linen": "Module",
    "flax.nnx": "Module",
}  # and the class of what has layers


def tapped_model(model: Any, at: tuple[str, ...]) -> Callable | None:
    """The model as a pure function with the layers `at` tapped, its arrays as pytree leaves.

    None if it is no model of a known framework; ValueError if it lacks a layer, or what it needs to
    run. Keywords of a `functools.partial` are passed on.
    """
    args, keywords = (), {}
    model = _uncompiled(model)
    if isinstance(model, partial):
        model, args, keywords = _uncompiled(model.func), model.args, model.keywords
    for framework in _FRAMEWORKS:
        if framework in sys.modules:
            adapter = import_module(f"{__name__}.{framework.rpartition('.')[2]}")
            if (network := adapter.tapped(model, args, at)) is not None:
                return Call.of(network, (), keywords) if keywords else network
    return None


def layers(model: Any) -> list[str]:
    """Paths of every submodule of a flax.nnx module, from the input of the tree downwards."""
    return import_module(f"{__name__}.nnx").layers(model)


def parameter_axes(model: Any, path: str) -> int:
    """The most axes that a parameter below a submodule of a flax.nnx module has; 0 without any."""
    return import_module(f"{__name__}.nnx").parameter_axes(model, path)


def layer_names(network: Callable, images: Array) -> tuple[str, ...]:
    """The layers of a tapped model that can be tapped, or the taps that a function meets."""
    model, _ = _unwrapped(network)
    names = getattr(model, "layers", None)
    return tuple(names()) if names else tap_names(network, images)


def with_layers(network: Callable, at: tuple[str, ...]) -> Callable:
    """A tapped model with other layers tapped; a function, whose taps are its own, as it is."""
    model, wrap = _unwrapped(network)
    return wrap(replace(model, at=at)) if hasattr(model, "at") else network


def changed(network: Callable, change: Callable) -> Callable:
    """A tapped flax.nnx module with `change(module)` in the module's place."""
    model, wrap = _unwrapped(network)
    if not hasattr(model, "changed"):
        raise TypeError("this method reads the layers of a flax.nnx module; the encoder is of none")
    return wrap(model.changed(change))


def readings(network: Callable) -> frozenset[Callable] | None:
    """The functions model -> model that changed a tapped model; None if it is a function."""
    model, _ = _unwrapped(network)
    return getattr(model, "readings", frozenset()) if hasattr(model, "at") else None


@contextmanager
def explained(network: Callable) -> Iterator[None]:
    """Say of a layer that was not met which module the network's function hides, if it does."""
    try:
        yield
    except NoLayerError as error:
        model, _ = _unwrapped(network)
        for name, value in _named_in(model):
            if given := _as_captured(name, value):
                raise ValueError(
                    f"{error}; this function calls {name!r}, a {type(value).__name__}, whose "
                    f"layers are seen where it is captured itself: fam_jax.capture({given}, ...), "
                    "with output= for what the function takes of what it returns"
                ) from None
        raise


def _as_captured(name: str, value: Any) -> str | None:
    """The code by which a model of this name is handed to `capture`; None for what is no model."""
    if _is_model(value):
        return name
    owner = value if isinstance(value, FunctionType) else type(value)
    made = owner is not value or "<locals>" in value.__qualname__  # by `transform`
    if not (made and str(owner.__module__).startswith("haiku.")):
        return None
    return f"functools.partial({name}{'' if owner is value else '.apply'}, params, rng)"


def _named_in(fn: Any) -> Iterator[tuple[str, Any]]:
    fn = _uncompiled(fn)
    if isinstance(fn, FunctionType):
        found = inspect.getclosurevars(fn)
        yield from {**found.globals, **found.nonlocals}.items()
    elif hasattr(fn, "module"):  # of an object that calls it, as those of transformers do
        yield "module", fn.module


def _is_model(value: Any) -> bool:
    loaded = [
        (sys.modules[name], kind) for name, kind in _FRAMEWORKS.items() if name in sys.modules
    ]
    return isinstance(value, tuple(getattr(module, kind) for module, kind in loaded))


def _uncompiled(model: Any) -> Any:
    """What `jax.jit` or `nnx.jit` was given: an encoder is compiled anyway."""
    while hasattr(model, "__wrapped__") and hasattr(model, "lower"):
        model = model.__wrapped__
    return model


def _unwrapped(network: Callable) -> tuple[Any, Callable]:
    """The model inside a call with keywords, and what puts another into its place."""
    if isinstance(network, Chosen):
        model, wrap = _unwrapped(network.network)
        return model, lambda other: replace(network, network=wrap(other))
    if not isinstance(network, Call):
        return network, lambda model: model
    fn, args, keywords = join(network.arrays, network.rest)
    return fn, lambda model: Call.of(model, args, keywords)
