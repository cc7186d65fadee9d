"""haiku: a transformed function with its parameters; modules' calls are intercepted in the trace."""

from functools import partial
from typing import Any

import haiku as hk
from jax import Array

from fam_jax._core.frameworks.arrays import Call
from fam_jax._core.frameworks.paths import Calls, by_path
from fam_jax._core.pytree import pytree_dataclass


@pytree_dataclass("at")
class _TappedFunction:
    apply: Call
    at: tuple[str, ...]

    def _words(self) -> str:
        return self.apply._words()

    def __call__(self, images: Array, **keywords: Any) -> Any:
        calls = Calls(by_path(self.at))

        def intercept(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            return calls.run(context.module.module_name, partial(call, *args, **kwargs))

        with hk.intercept_methods(intercept):
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
