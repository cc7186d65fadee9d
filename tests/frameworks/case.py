"""What every framework's models are compared by."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

import fam_jax


class Case(NamedTuple):
    """A model, and what its framework itself says of it; `images` are [b, H, W, c]."""

    model: Any  # what `capture` is given
    at: str
    features: Callable  # images -> activations [b, h, w, c], by the layers themselves
    head: Callable  # activations -> embeddings
    whole: Callable  # images -> embeddings, as a user calls the model
    weights: Callable  # () -> the arrays of the user's own model
    layout: str = "NHWC"
    outputs: int = 6  # of `whole`

    def encoder(self):
        return fam_jax.capture(self.model, at=self.at, layout=self.layout)


@contextlib.contextmanager
def promotion(name):
    if not name.startswith("keras"):
        yield
        return
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
