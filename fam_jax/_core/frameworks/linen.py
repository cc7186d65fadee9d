"""flax.linen: a module and its variables; the layers' calls are intercepted during the trace."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from flax import linen
from jax import Array

from fam_jax._core.frameworks.paths import Calls, bound, by_path, of_model
from fam_jax._core.pytree import Static, pytree_dataclass


@pytree_dataclass("module", "method", "at")
class _TappedModule:
    variables: Any
    module: Static
    method: str
    at: tuple[str, ...]

    def _words(self) -> str:
        return of_model(type(self.module.value).__name__, self.method)

    def __call__(self, images: Array, **keywords: Any) -> Any:
        with tapping(by_path(self.at)):
            keywords = {"method": self.method} | keywords
            return self.module.value.apply(self.variables, images, **keywords)


@contextmanager
def tapping(wanted: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Layers that are called inside are tapped, and those that are not are an error at its end."""
    calls = Calls(wanted)

    def intercept(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        return calls.run(".".join(context.module.path), partial(call, *args, **kwargs))

    with linen.intercept_methods(intercept):
        yield
    calls.check()


def tapped(model: Any, args: tuple, at: tuple[str, ...]) -> _TappedModule | None:
    """A linen module bound to variables, a method of one, or `apply` with variables, as `args`."""
    owner, method = bound(model, linen.Module)
    if owner is None:
        return None
    if method == "apply" and len(args) == 1:
        return _TappedModule(args[0], Static(owner), "__call__", at)
    if owner.scope is None or args:
        raise ValueError(
            f"model: this {type(owner).__name__} has no variables; pass module.bind(variables), "
            "or functools.partial(module.apply, variables, train=False) with its flags"
        )
    module, variables = owner.unbind()
    return _TappedModule(variables, Static(module), method, at)
