"""haiku: a transformed function with parameters; modules' calls are intercepted in the trace."""

from functools import partial
from importlib import import_module
from typing import Any

from jax import Array

from fam_jax._core.frameworks.arrays import Call
from fam_jax._core.frameworks.paths import Calls, by_path, of_model
from fam_jax._core.pytree import pytree_dataclass


@pytree_dataclass("at")
class _TappedFunction:
    apply: Call
    at: tuple[str, ...]

    def _words(self) -> str:
        return of_model("haiku", "apply")

    def __call__(self, images: Array, **keywords: Any) -> Any:
        calls = Calls(by_path(self.at))

        def intercept(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            return calls.run(context.module.module_name, partial(call, *args, **kwargs))

        with import_module("haiku").intercept_methods(intercept):
            out = self.apply(images, **keywords)
        calls.check()
        return out


def tapped(model: Any, args: tuple, at: tuple[str, ...]) -> _TappedFunction | None:
    """`apply` of a transformed function with parameters (state, rng) as `args`; None for others."""
    if not getattr(model, "__module__", "").startswith("haiku."):
        return None
    if not args:
        raise ValueError(
            "model: this haiku function has no parameters; pass functools.partial(net.apply, "
            "params), or (net.apply, params, state, None) of transform_with_state"
        )
    return _TappedFunction(Call.of(model, args), at)
