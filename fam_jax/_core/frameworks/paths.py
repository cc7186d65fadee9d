"""What every framework's layers share: the tap around a layer's call, and the error messages."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import jax

from fam_jax._core.scans import unstepped
from fam_jax._core.tap import tap

_PART = re.compile(r":(\d+)$")


def bound(model: Any, kind: type) -> tuple[Any, str]:
    """The model and the method of a model of some kind, or of its bound method; None for others."""
    owner = getattr(model, "__self__", None)
    if isinstance(owner, kind):
        return owner, model.__name__
    return (model if isinstance(model, kind) else None), "__call__"


def of_model(name: str, method: str) -> str:
    """What a model that is called by some method is called in a line of text."""
    return name if method == "__call__" else f"{name}.{method}"


def path_of(at: str) -> str:
    """Where the layer lies: "encoder.block" of "encoder.block[10]:0"."""
    return _PART.sub("", unstepped(at))


def by_path(at: Sequence[str]) -> dict[str, list[str]]:
    """The taps that the names of layers need, by path; one serves all steps of a scan."""
    taps: dict[str, list[str]] = {}
    for name in dict.fromkeys(map(unstepped, at)):
        taps.setdefault(path_of(name), []).append(name)
    return taps


def tap_output(out: Any, at: str) -> Any:
    """The layer's output with an array of it tapped.

    Of several arrays it is the one that "layer:1" asks for, else the only one of three axes or
    more, or the only one.
    """
    leaves, structure = jax.tree.flatten(out)
    shapes = [getattr(leaf, "shape", None) for leaf in leaves]
    if part := _PART.search(at):
        mine = [i for i in [int(part[1])] if i < len(leaves) and shapes[i] is not None]
    elif hasattr(out, "shape"):
        mine = [0]
    else:
        arrays = [i for i, shape in enumerate(shapes) if shape is not None]
        mine = [i for i in arrays if len(leaves[i].shape) > 2] or arrays
    if len(mine) != 1:
        path = path_of(at)
        which = [f"{path}:{i} {shape}" for i, shape in enumerate(shapes) if shape is not None]
        holds = f": take one of {', '.join(which)}" if which else "; take a layer inside it"
        raise ValueError(
            f"the layer {at!r} gives a {type(out).__name__}, in which no array is the map{holds}"
        )
    leaves[mine[0]] = tap(leaves[mine[0]], at)
    return structure.unflatten(leaves)


class Calls:
    """Layers as a framework's interceptor meets them in a forward pass, tapped where asked for.

    Args:
        wanted: the taps of layers, by their paths.
    """

    def __init__(self, wanted: Mapping[str, Sequence[str]]) -> None:
        self._wanted = {path.replace("/", "."): taps for path, taps in wanted.items()}
        self._met: set[str] = set()
        self._running: set[str] = set()

    def run(self, path: str, call: Callable[[], Any]) -> Any:
        """The output of a layer's call."""
        path = path.replace("/", ".")
        # A lifted module (nn.remat, ...) calls itself under the same path: tap the outer one.
        if path in self._running:
            return call()
        self._met.add(path)
        self._running.add(path)
        try:
            out = call()
        finally:
            self._running.remove(path)
        for at in self._wanted.get(path, ()):
            out = tap_output(out, at)
        return out

    def check(self) -> None:
        """Raise ValueError for a layer that was not met."""
        for path in self._wanted.keys() - self._met:
            raise ValueError(no_layer(path, in_order([met for met in self._met if met])))


def tapped_class(kind: type, at: str) -> type:
    """A subclass of a layer's class whose output is tapped; any instance may take it on."""
    call: Callable = kind.__call__

    def __call__(self, *args, **kwargs):  # noqa: N807
        return tap_output(call(self, *args, **kwargs), at)

    return with_call(kind, __call__)


def with_call(kind: type, call: Callable, **attributes: Any) -> type:
    """A subclass of a layer's class with another `__call__`; any instance may take it on."""
    own = {"__call__": call, "__module__": kind.__module__, **attributes}
    return type(kind)(kind.__name__, (kind,), own)


def warn_in_training(batch: list[str], chance: list[str], mend: str) -> None:
    """Warn of layers that take the batch's statistics, and of those that draw at random.

    Called as a program is traced, so that it is said once and not on every call.
    """
    where = {"batch statistics": batch, "random draws": chance}
    said = [f"{what} in {_some(paths)}" for what, paths in where.items() if paths]
    if said:
        warnings.warn(
            f"model: in training mode ({'; '.join(said)}): the map of an image changes with its "
            f"batch or with every call; {mend}",
            stacklevel=2,
        )


def _some(paths: list[str]) -> str:
    return f"{paths[0]!r} and {len(paths) - 1} more" if paths[1:] else f"{paths[0]!r}"


def in_order(paths: list[str]) -> list[str]:
    """Sorted by name, numbers by value, each layer before what is inside it."""

    def natural(path: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in path.split(".")]

    return sorted(paths, key=natural)


def no_layer(path: str, every: list[str]) -> str:
    """The message for a path that leads nowhere: what lies at the top, and the nearest."""
    top = list(dict.fromkeys(name.split(".")[0] for name in every))
    within = [name for name in every if name.endswith(f".{path}")]
    near = dict.fromkeys((*within, *get_close_matches(path, every, n=3)))
    near = [name for name in near if name not in top][:3]
    also = f" (and within: {', '.join(near)})" if near else ""
    return f"no layer {path!r}; this model has: {', '.join(top)}{also}"


def check_called(at: tuple[str, ...], find: Callable, layers: Callable) -> None:
    """Raise for a path to nothing, and for a layer that has no output of its own."""
    for path in by_path(at):
        if not callable(layer := find(path)):
            top = dict.fromkeys(name.split(".")[0] for name in layers(layer))
            holds = f"; it holds: {', '.join(top)}" if top else ""
            raise ValueError(
                f"the layer {path!r} is a {type(layer).__name__} that is not called{holds}"
            )
