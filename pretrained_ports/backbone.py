"""A network with all that is needed to use it."""

from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax
from flax import nnx

from pretrained_ports.catalog.entry import Entry
from pretrained_ports.checkpoints.report import Report
from pretrained_ports.models.network import AnyNetwork
from pretrained_ports.preprocess import Preprocess, View


@dataclass(frozen=True)
class Backbone:
    """A network with all that is needed to use it.

    Attributes:
        name: Its name in the zoo.
        model: images [b H W c] -> embeddings [b d], a flax.nnx module in evaluation mode.
        layer: Path of the layer to explain by default.
        tokens: How a transformer's tokens lie on the image, as `Entry.tokens`; None for a map.
        preprocess: One picture -> float32 [H W c].
        embedding_dim: d, for pictures of `preprocess.size`.
        source: Where the weights come from, in one line.
        report: What the conversion did with every tensor; None for random weights.
        gates: Whether attention, norms and gated units are to be constants of the pullback from
            the embedding to `layer` ("frozen") or not ("free").
    """

    name: str
    model: AnyNetwork
    layer: str
    tokens: tuple[int, tuple[int, int] | None] | None
    preprocess: Preprocess
    embedding_dim: int
    source: str
    report: Report | None = None
    gates: str = "free"

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, layer={self.layer!r}, source={self.source!r})"

    def open(self, picture: str | PathLike[str] | Any) -> View:
        """The input for a picture in a file (or a picture), and which part of it that shows.

        Raises:
            OSError, ValueError, TypeError: One line: no such file, or no picture.

        Examples:
            >>> import numpy as np
            >>> from pretrained_ports import create
            >>> view = create("cifar-resnet20").open(np.zeros((64, 48, 3), np.uint8))
            >>> view.input.shape, view.box
            ((32, 32, 3), (0.0, 8.0, 48.0, 56.0))
        """
        return self.preprocess.open(picture)


def bundle(
    name: str, entry: Entry, model: AnyNetwork, source: str, report: Report | None = None
) -> Backbone:
    """A model with what its row says of it; the model may be abstract."""
    dim = embedding_dim(entry, model)
    return Backbone(name, model, entry.layer, entry.tokens, entry.preprocess, dim, source, report)


def embedding_dim(entry: Entry, model: AnyNetwork) -> int:
    """Of pictures of the row's size; the model is in evaluation mode from here on."""
    model.eval()
    picture = jax.ShapeDtypeStruct(
        (1, *entry.preprocess.size, entry.preprocess.channels), "float32"
    )
    return nnx.eval_shape(lambda model, images: model(images), model, picture).shape[-1]
