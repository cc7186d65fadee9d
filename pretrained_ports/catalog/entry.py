"""What the catalog knows of a model before its weights are there: one `Entry` a row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from pretrained_ports.models.network import AnyNetwork
from pretrained_ports.models.state import Shapes
from pretrained_ports.preprocess import Preprocess


class Hub(NamedTuple):
    """A file of a Hugging Face repository."""

    repository: str
    file: str = "model.safetensors"


class Package(NamedTuple):
    """A file of an installed package that holds nothing but weights: its name for pip, its path."""

    name: str
    file: str


@dataclass(frozen=True)
class Entry:
    """One row of the catalog.

    Attributes:
        family: What `fam-jax models` lists it under.
        build: Makes the model from `rngs=` and `param_dtype=`; images [b H W c] -> embeddings
            [b d].
        layer: Default layer path.
        preprocess: The input that the weights were trained on.
        dialects: Names of the tables that its checkpoints may follow.
        tokens: How a transformer's tokens lie on the image: how many stand before the patches
            (class, distillation, registers), and rows and columns of the patches, None where
            these follow the shape of the images. None for a layer that gives a map [b h w c].
        hub: Where the default weights are downloaded from, if they can be.
        package: What else may bring the default weights; looked for before the hub is asked.
        embedded: File in this package's `weights` folder with the default weights, if any.
        release: Address of the authors' own files or code, for weights that no hub serves.
        licence: Licence of the default weights.
        infer: Adapts the row to the shapes that a checkpoint offers, if its models vary.
    """

    family: str
    build: Callable[..., nnx.Module]
    layer: str
    preprocess: Preprocess
    dialects: tuple[str, ...] = ("native",)
    tokens: tuple[int, tuple[int, int] | None] | None = None
    hub: Hub | None = None
    package: Package | None = None
    embedded: str | None = None
    release: str = ""
    licence: str = ""
    infer: Callable[["Entry", Shapes], "Entry"] | None = None


class _OneKey(nnx.Rngs):
    """One key for every parameter: counting keys is most of the time that a deep model takes."""

    def params(self) -> jax.Array:
        return jax.random.key(0)


def abstract(entry: Entry, param_dtype: DTypeLike = jnp.float32) -> AnyNetwork:
    """The model of a row, to be filled: shapes in place of arrays.

    A model that has more than parameters and batch statistics (the keys of dropout, constants) has
    arrays, since nothing else would set these.
    """
    build: Callable[..., Any] = entry.build

    def shapes() -> Any:
        model = build(rngs=_OneKey(0), param_dtype=param_dtype)
        return None if _has_more(model) else model

    model = nnx.eval_shape(shapes)
    return build(rngs=nnx.Rngs(0), param_dtype=param_dtype) if model is None else model


def _has_more(model: nnx.Module) -> bool:
    """Whether a model that is being traced has arrays beside parameters and batch statistics."""
    *_, rest = nnx.split(model, (nnx.Param, nnx.BatchStat), ...)
    # While they are traced, flax does not count plain arrays among what a model holds.
    attributes = (value for _, part in nnx.iter_modules(model) for value in vars(part).values())
    return bool(jax.tree.leaves(rest)) or any(isinstance(a, jax.core.Tracer) for a in attributes)
