"""Layers of models as they are: paths into them, and pure functions that tap them there."""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from fam_jax._core.frameworks.arrays import Call

# A model cannot exist before its framework's import, so none is imported here. Keras comes first:
# its layers may be modules of flax.nnx as well.
_FRAMEWORKS = {
    "keras": "fam_jax._core.frameworks.keras",
    "equinox": "fam_jax._core.frameworks.equinox",
    "flax.linen": "fam_jax._core.frameworks.linen",
    "flax.nnx": "fam_jax._core.frameworks.nnx",
}


def tapped_model(model: Any, at: tuple[str, ...]) -> Callable | None:
    """The model as a pure function with the layers `at` tapped, its arrays as pytree leaves.

    None if it is no model of a known framework. Keywords of a `functools.partial` are passed on.

    Raises:
        ValueError: if the model lacks one of the layers, or lacks what it needs to run.
    """
    args, keywords = (), {}
    if isinstance(model, partial):
        model, args, keywords = model.func, model.args, model.keywords
    for framework, adapter in _FRAMEWORKS.items():
        if framework in sys.modules:
            network = import_module(adapter).tapped(model, args, at)
            if network is not None:
                return Call.of(network, (), keywords) if keywords else network
    return None


def layers(model: Any) -> list[str]:
    """Paths of every submodule of a flax.nnx module, from the input of the tree downwards."""
    return import_module(_FRAMEWORKS["flax.nnx"]).layers(model)
