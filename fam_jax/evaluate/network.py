"""The network under evaluation: a backbone, the layer that is explained, and its embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

import fam_jax
from fam_jax._core import frameworks
from fam_jax._core.chunks import map_batches

_BATCH = 32


@dataclass(frozen=True, eq=False)
class Network:
    """A backbone at one of its layers.

    Attributes:
        backbone: from `pretrained_ports.load`; its preprocessing may be for another size.
        layer: where maps are taken.
        similarity: how its task compares embeddings.
    """

    backbone: Any
    layer: str
    similarity: fam_jax.Similarity

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it takes."""
        return self.backbone.preprocess.size

    @cached_property
    def encode(self) -> fam_jax.Encoder:
        """Its encoder at the layer."""
        return self.capture(self.backbone.model)

    def capture(self, model: Any) -> fam_jax.Encoder:
        """The encoder of another model of the same kind."""
        return fam_jax.capture(model, at=self.layer, tokens=self.backbone.tokens)

    def view(self, picture: Image.Image) -> UInt8[np.ndarray, "H W c"]:
        """What it sees of a picture, before normalisation."""
        pixels = np.asarray(self.backbone.preprocess.view(picture))
        return pixels.reshape(*self.size, self.backbone.preprocess.channels)

    def prepare(self, pixels: UInt8[np.ndarray, "*b H W c"]) -> Float32[np.ndarray, "*b H W c"]:
        """Its input for pictures it sees."""
        return self.backbone.preprocess.normalise(pixels)

    def embed(self, images: Float32[np.ndarray, "n H W c"]) -> Float32[np.ndarray, "n d"]:
        """Embeddings, a batch at a time."""
        run = partial(_embed, self.encode)
        return map_batches(run, images.__getitem__, len(images), _BATCH)

    def grid(self) -> tuple[int, int]:
        """Rows and columns of its maps."""
        shape = (1, *self.size, self.backbone.preprocess.channels)
        return jax.eval_shape(self.encode, np.zeros(shape, np.float32)).activations.shape[1:3]

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether pictures of another size get embeddings of the same dimension."""
        channels = self.backbone.preprocess.channels
        try:
            shape = jax.eval_shape(self.encode, np.zeros((1, *size, channels), np.float32))
        except ValueError:
            return False
        return shape.embeddings.shape[1] == self.backbone.embedding_dim

    def stages(self) -> list[str]:
        """Its parts with parameters, from input to output; blocks of a transformer one by one."""
        names = frameworks.layers(self.backbone.model)
        tops = [name for name in names if "." not in name]
        inside = {
            top: [n for n in names if n.startswith(f"{top}.") and n.count(".") == 1] for top in tops
        }
        return [n for top in tops for n in (inside[top] if top == "blocks" else [top])]


@jax.jit
def _embed(encode, images):
    return encode(images).embeddings


def views(network: Network, pictures: Sequence[Any]) -> UInt8[np.ndarray, "n H W c"]:
    """What the network sees of pictures with an `image`."""
    return np.stack([network.view(picture.image) for picture in pictures])
