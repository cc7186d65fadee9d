"""flax.nnx: a module is split into graph and state; the layers' classes are exchanged in a copy."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import Array

from fam_jax._core.frameworks.paths import (
    bound,
    by_path,
    check_called,
    in_order,
    no_layer,
    of_model,
    tapped_class,
    warn_in_training,
    with_call,
)
from fam_jax._core.pytree import pytree_dataclass

_MEND = "call model.eval() before capture (in a training step take encode.with_state)"


@pytree_dataclass("graph", "at", "method", "readings")
class _TappedModule:
    graph: Any
    state: Any
    at: tuple[str, ...]
    method: str
    readings: frozenset[Callable]

    def _words(self) -> str:
        return of_model(self.graph.nodes[0].type.__name__, self.method)

    def __call__(self, images: Array, **keywords: Any) -> Any:
        output, model = self._run(images, keywords)
        warn_in_training(*_trained(model, self._model()), _MEND)
        return output

    def with_state(self, images: Array, **keywords: Any) -> tuple[Any, Any]:
        """The output, and all variables but the parameters as the model leaves them."""
        output, model = self._run(images, keywords)
        return output, nnx.state(model, nnx.Not(nnx.Param))

    def layers(self) -> list[str]:
        """Paths of every submodule."""
        return layers(self._model())

    def changed(self, change: Callable) -> "_TappedModule":
        """The same of `change(module)`."""
        graph, state = nnx.split(change(self._model()))
        return replace(self, graph=graph, state=state, readings=self.readings | {change})

    def _model(self) -> Any:
        return nnx.merge(self.graph, self.state, copy=True)

    def _run(self, images: Array, keywords: dict[str, Any]) -> tuple[Any, Any]:
        model = self._model()
        # The classes of this copy's layers are exchanged, so that a layer keeps its place, its
        # attributes and its sharing; the model it was copied from is not touched.
        inside: dict[str, dict[str, list[str]]] = {}
        for path, taps in by_path(self.at).items():
            if (around := _bridge(model, path)) is not None:
                inside.setdefault(around, {})[path[len(around) :].lstrip(".")] = taps
                continue
            layer = find(model, path)
            for at in taps:
                layer.__class__ = tapped_class(type(layer), at)
        for around, wanted in inside.items():
            layer = find(model, around) if around else model
            layer.__class__ = _bridged_class(type(layer), wanted)
        return getattr(model, self.method)(images, **keywords), model


def tapped(model: Any, args: tuple, at: tuple[str, ...]) -> _TappedModule | None:
    """A flax.nnx module, or a bound method of one, with `at` tapped; None for all else."""
    owner, method = bound(model, nnx.Module)
    if args or owner is None:
        return None
    own = tuple(name for name in at if _bridge(owner, name) is None)
    check_called(own, partial(find, owner), layers)
    graph, state = nnx.split(owner)
    # A function model -> model whose copies tell themselves names itself in the layers' classes.
    by = {getattr(type(layer), "_changed_by", None) for _, layer in nnx.iter_modules(owner)}
    # New variables around the same arrays: an encoder does not follow later updates of the model.
    state = jax.tree.map(lambda array: array, state)
    return _TappedModule(graph, state, at, method, frozenset(fn for fn in by if fn))


def _bridge(model: Any, path: str) -> str | None:
    """The path to the `nnx.bridge.ToNNX` in which a path leads on; None if there is none."""
    names, node = path.split("."), model
    for i, name in enumerate(names):
        if isinstance(node, nnx.bridge.ToNNX):
            return ".".join(names[:i])
        with suppress(AttributeError, KeyError, IndexError, ValueError, TypeError):
            node = node[int(name)] if isinstance(node, list | tuple) else getattr(node, name)
    return None


def _bridged_class(kind: type, wanted: dict[str, list[str]]) -> type:
    """A subclass of `ToNNX` in which the layers of the linen module are tapped."""
    from fam_jax._core.frameworks.linen import tapping

    call: Callable = kind.__call__

    def __call__(self, *args, **kwargs):  # noqa: N807
        with tapping(wanted):
            return call(self, *args, **kwargs)

    return with_call(kind, __call__)


def _trained(model: Any, before: Any) -> tuple[list[str], list[str]]:
    """Layers that ran in training mode: that took the batch's statistics, that drew at random.

    A mode may be overruled by the call, so it counts where the layer wrote what it then writes.
    """
    was = dict(nnx.iter_modules(before))
    lists = []
    for mode in ("use_running_average", "deterministic"):
        training = {path: x for path, x in nnx.iter_modules(model) if vars(x).get(mode) is False}
        wrote = [path for path, x in training.items() if _notes(x) != _notes(was[path])]
        lists.append([".".join(map(str, path)) for path in wrote])
    return lists[0], lists[1]


def _notes(layer: Any) -> list[int]:
    """Which arrays beside the parameters a layer holds."""
    return [id(array) for array in jax.tree.leaves(nnx.state(layer, nnx.Not(nnx.Param)))]


def find(model: Any, path: str) -> Any:
    """The submodule at a path such as "layer4.2"; ValueError with the layers there are."""
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
            raise ValueError(no_layer(path, layers(model))) from None
    if not isinstance(node, nnx.Module | list | tuple | dict):
        raise ValueError(no_layer(path, layers(model)))
    return node


def layers(model: Any) -> list[str]:
    """Paths of every submodule, from the input of the tree downwards."""
    return in_order([".".join(map(str, path)) for path, _ in nnx.iter_modules(model) if path])


def parameter_axes(model: Any, path: str) -> int:
    """The most axes that a parameter below the submodule has: 1 of a norm; 0 without any."""
    arrays = jax.tree.leaves(nnx.state(find(model, path), nnx.Param))
    return max((array.ndim for array in arrays), default=0)
