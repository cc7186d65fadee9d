"""What every framework's layers share: the tap around a layer's call, and the error messages."""

import warnings
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from fam_jax._core.tap import tap


def bound(model: Any, kind: type) -> tuple[Any, str]:
    """The model and the method of a model of some kind, or of its bound method; None for others."""
    owner = getattr(model, "__self__", None)
    if isinstance(owner, kind):
        return owner, model.__name__
    return (model if isinstance(model, kind) else None), "__call__"


def of_model(name: str, method: str) -> str:
    """What a model that is called by some method is called in a line of text."""
    return name if method == "__call__" else f"{name}.{method}"


def tap_output(out: Any, at: str) -> Any:
    """The layer's output, tapped; ValueError if it is not one array."""
    if not hasattr(out, "shape"):
        raise ValueError(
            f"the layer {at!r} gives a {type(out).__name__}, not one array; take a layer inside it"
        )
    return tap(out, at)


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
    for path in at:
        if not callable(layer := find(path)):
            top = dict.fromkeys(name.split(".")[0] for name in layers(layer))
            holds = f"; it holds: {', '.join(top)}" if top else ""
            raise ValueError(
                f"the layer {path!r} is a {type(layer).__name__} that is not called{holds}"
            )
