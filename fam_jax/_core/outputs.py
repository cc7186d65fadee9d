"""Which array of those that a model returns is its embedding: the one asked for, or the only one.

{"last_hidden_state": [b, n, d], "pooler_output": [b, d]}  ->  "pooler_output"
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from jax import Array

from fam_jax._core.brief import brief
from fam_jax._core.pytree import pytree_dataclass


@pytree_dataclass("key")
class Chosen:
    """A network that returns one array of those that another returns."""

    network: Callable[[Array], Any]
    key: str | int | None = None
    function: Callable[[Any], Any] | None = None

    def _words(self) -> str:
        return brief(self.network)

    def __call__(self, images: Array) -> Any:
        """The embedding."""
        return self._of(self.network(images), images)

    @property
    def with_state(self) -> Callable:
        """The embedding, and what the network writes as it runs; of a network that has this."""
        network: Any = self.network
        run = network.with_state

        def both(images: Array) -> tuple[Any, Any]:
            output, state = run(images)
            return self._of(output, images), state

        return both

    def _of(self, output: Any, images: Array) -> Any:
        if self.function is not None:
            return self.function(output)
        if self.key is not None:
            return _at(output, self.key)
        if getattr(output, "shape", None) is not None:
            return output
        rows = [x for x in dict(_arrays(output)).values() if _of_images(x, len(images))]
        if len(rows) != 1:
            raise ValueError(
                f"the network returns {_listed(output)}: say by output= which is the embedding "
                f"[{len(images)}, d]"
            )
        return rows[0]


def _of_images(x: Any, b: int) -> bool:
    return len(x.shape) == 2 and x.shape[0] == b


def _at(output: Any, key: str | int) -> Any:
    """What lies at "a.b.0", or at a key that is one as a whole."""
    steps = [key] if key in dict(_children(output)) else str(key).split(".")
    found = output
    for step in steps:
        children = {str(name): child for name, child in _children(found)}
        if str(step) in children:
            found = children[str(step)]
        elif isinstance(found, tuple | list) and _is_index(step, len(found)):
            found = found[int(step)]
        elif isinstance(step, str) and hasattr(found, step):
            found = getattr(found, step)
        else:
            raise ValueError(f"output: the network returns nothing at {key!r}: {_listed(output)}")
    return found


def _is_index(step: str | int, n: int) -> bool:
    """Whether one of n has this number, from the front or, below 0, from the back."""
    return re.fullmatch(r"-?\d+", str(step)) is not None and -n <= int(step) < n


def _children(output: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(output, Mapping):
        yield from output.items()
    elif isinstance(output, tuple | list):
        names = getattr(output, "_fields", range(len(output)))
        yield from zip(names, output, strict=True)
    elif is_dataclass(output):
        yield from ((field.name, getattr(output, field.name)) for field in fields(output))


def _arrays(output: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if getattr(output, "shape", None) is not None:
        yield path, output
    for name, child in _children(output):
        yield from _arrays(child, f"{path}.{name}" if path else str(name))


def _listed(output: Any) -> str:
    arrays = [f"{path} {list(x.shape)}" for path, x in _arrays(output)]
    return ", ".join(arrays) if arrays else f"a {type(output).__name__} without arrays"
