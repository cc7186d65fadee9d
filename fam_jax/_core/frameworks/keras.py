"""Keras 3 on JAX: a model with its variables' values; the layers' calls are tapped in the trace."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any

from jax import Array

from fam_jax._core.frameworks.paths import bound, by_path, no_layer, of_model, tap_output
from fam_jax._core.pytree import pytree_dataclass

_TRACING = RLock()  # one trace at a time may hold a layer's call


@pytree_dataclass("model", "method", "at")
class _TappedModel:
    values: Any
    model: Any  # holds the structure; its own values are not used
    method: str
    at: tuple[str, ...]

    def _words(self) -> str:
        return of_model(self.model.name, self.method)

    def __call__(self, images: Array, **keywords: Any) -> Any:
        import keras

        state = list(zip(self.model.variables, self.values, strict=True))
        refused: list[ValueError] = []
        with ExitStack() as stack:
            stack.enter_context(keras.StatelessScope(state))
            for path, taps in by_path(self.at).items():
                for at in taps:
                    stack.enter_context(_tapped_call(_find(self.model, path), at, refused))
            out = getattr(self.model, self.method)(images, **keywords)
        for error in refused:  # out here, where Keras adds nothing to the message
            raise error
        return out


@contextmanager
def _tapped_call(layer: Any, at: str, refused: list[ValueError]) -> Iterator[None]:
    """Keras has no place for a wrapper inside a model, so the layer's own call is lent to one."""
    with _TRACING:
        before, call = vars(layer).get("call"), layer.call

        def tapped_call(*args, **kwargs):
            out = call(*args, **kwargs)
            try:
                return tap_output(out, at)
            except ValueError as error:
                refused.append(error)
                return out

        # In the instance's own dictionary: the layer's __setattr__ would track it.
        vars(layer)["call"] = tapped_call
        try:
            yield
        finally:
            del vars(layer)["call"]
            if before is not None:
                vars(layer)["call"] = before


def tapped(model: Any, args: tuple, at: tuple[str, ...]) -> _TappedModel | None:
    """A Keras model, or a bound method of one, with `at` tapped; None for all else."""
    import keras

    owner, method = bound(model, keras.Layer)
    if args or owner is None:
        return None
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"model: Keras runs on {keras.backend.backend()} here; set the environment variable "
            "KERAS_BACKEND=jax before its import"
        )
    if not owner.built:
        raise ValueError("model: this Keras model has no weights yet; call it on images once")
    for path in by_path(at):
        _find(owner, path)
    return _TappedModel([variable.value for variable in owner.variables], owner, method, at)


def _find(model: Any, path: str) -> Any:
    """The layer of this name; "outer.inner" is the layer `inner` of the layer `outer`."""
    layers = dict(_layers(model))
    if path not in layers:
        raise ValueError(no_layer(path, list(layers)))
    return layers[path]


def _layers(model: Any, outer: str = "") -> Iterator[tuple[str, Any]]:
    import keras

    for layer in model._flatten_layers(include_self=False, recursive=False):
        if not isinstance(layer, keras.layers.InputLayer):
            yield outer + layer.name, layer
            yield from _layers(layer, f"{outer}{layer.name}.")
