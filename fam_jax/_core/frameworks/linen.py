"""flax.linen: a module and its variables; the layers' calls are intercepted during the trace."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from jax import Array

from fam_jax._core.frameworks.arrays import Static
from fam_jax._core.frameworks.paths import in_order, no_layer, tap_output
from fam_jax._core.pytree import register_dataclass


@partial(register_dataclass, data_fields=["variables"], meta_fields=["module", "method", "at"])
@dataclass(frozen=True)
class _TappedModule:
    variables: Any
    module: Static
    method: str
    at: tuple[str, ...]

    def __call__(self, images: Array, **keywords: Any) -> Any:
        from flax import linen

        wanted = {at.replace("/", "."): at for at in self.at}
        met, open_ = set(), set()

        def intercept(call, args, kwargs, context):
            path = ".".join(context.module.path)
            # A lifted module (nn.remat, ...) calls itself under the same path: tap the outer one.
            if context.method_name != "__call__" or path in open_:
                return call(*args, **kwargs)
            met.add(path)
            open_.add(path)
            try:
                out = call(*args, **kwargs)
            finally:
                open_.remove(path)
            return tap_output(out, wanted[path]) if path in wanted else out

        with linen.intercept_methods(intercept):
            out = self.module.value.apply(
                self.variables, images, **{"method": self.method} | keywords
            )
        for path, at in wanted.items():
            if path not in met:
                raise ValueError(no_layer(at, in_order([path for path in met if path])))
        return out


def tapped(model: Any, args: tuple, at: tuple[str, ...]) -> _TappedModule | None:
    """A linen module bound to variables, a method of one, or `apply` with variables, as `args`."""
    from flax import linen

    owner, method = model, "__call__"
    if isinstance(getattr(model, "__self__", None), linen.Module):
        owner, method = model.__self__, model.__name__
    if not isinstance(owner, linen.Module):
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
