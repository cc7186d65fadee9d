"""flax.linen: a module and its variables; the layers' calls are intercepted during the trace."""

from typing import Any

from flax import linen
from jax import Array

from fam_jax._core.frameworks.paths import bound, by_path, in_order, no_layer, of_model, tap_output
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
        wanted = {path.replace("/", "."): taps for path, taps in by_path(self.at).items()}
        met, running = set(), set()

        def intercept(call, args, kwargs, context):
            path = ".".join(context.module.path)
            # A lifted module (nn.remat, ...) calls itself under the same path: tap the outer one.
            if context.method_name != "__call__" or path in running:
                return call(*args, **kwargs)
            met.add(path)
            running.add(path)
            try:
                out = call(*args, **kwargs)
            finally:
                running.remove(path)
            for at in wanted.get(path, ()):
                out = tap_output(out, at)
            return out

        with linen.intercept_methods(intercept):
            keywords = {"method": self.method} | keywords
            out = self.module.value.apply(self.variables, images, **keywords)
        for path in wanted:
            if path not in met:
                raise ValueError(no_layer(path, in_order([path for path in met if path])))
        return out


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
