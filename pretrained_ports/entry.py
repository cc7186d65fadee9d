"""What the zoo knows of a model before its weights are there: one `Entry` a row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pretrained_ports.convert import Shapes
from pretrained_ports.network import Network
from pretrained_ports.preprocess import Preprocess


class Tokens(NamedTuple):
    """How a transformer's tokens [b, n, c] lie on the image.

    Attributes:
        prefix: Tokens before the patches: class, distillation, registers.
        shape: Rows and columns of the patches; None follows the shape of the images.
    """

    prefix: int = 0
    shape: tuple[int, int] | None = None


class Hub(NamedTuple):
    """A file of a Hugging Face repository."""

    repository: str
    file: str = "model.safetensors"


@dataclass(frozen=True)
class Entry:
    """One row of the zoo.

    Attributes:
        family: What `fam-jax models` lists it under.
        build: Makes the model from `rngs=` and `param_dtype=`.
        layer: Default layer path.
        preprocess: The input that the weights were trained on.
        dialects: Names of the tables that its checkpoints may follow.
        tokens: How the tokens of the default layer lie; None for a map [b h w c].
        hub: Where the default weights are downloaded from, if they can be.
        embedded: File in this package's `weights` folder with the default weights, if any.
        release: Address of the authors' own files or code, for weights that no hub serves.
        licence: Licence of the default weights.
        infer: Adapts the row to the shapes that a checkpoint offers, if its models vary.
    """

    family: str
    build: Callable[..., Network]
    layer: str
    preprocess: Preprocess
    dialects: tuple[str, ...]
    tokens: Tokens | None = None
    hub: Hub | None = None
    embedded: str | None = None
    release: str = ""
    licence: str = ""
    infer: Callable[["Entry", Shapes], "Entry"] | None = None
