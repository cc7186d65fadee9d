"""The network under evaluation: a backbone, the layer that is explained, and its embeddings."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

import fam_jax
from fam_jax._core import frameworks
from fam_jax._core.chunks import map_batches
from fam_jax._core.tap import tap_names

_BATCH = 32


@dataclass(frozen=True, eq=False)
class Network:
    """A backbone of `pretrained_ports`, its encoder, and how its task compares embeddings."""

    backbone: Any
    encode: fam_jax.Encoder
    similarity: fam_jax.Similarity

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it takes."""
        return self.backbone.preprocess.size

    def views(self, pictures: Iterable[Image.Image]) -> UInt8[np.ndarray, "n H W c"]:
        """What it sees of pictures, before normalisation."""
        preprocess = self.backbone.preprocess
        pixels = np.stack([np.asarray(preprocess.view(picture)) for picture in pictures])
        return pixels.reshape(-1, *self.size, preprocess.channels)

    def prepare(self, pixels: UInt8[np.ndarray, "*b H W c"]) -> Float32[np.ndarray, "*b H W c"]:
        """Its input for pictures it sees."""
        return self.backbone.preprocess.normalise(pixels)

    def embed(self, images: Float32[np.ndarray, "n H W c"]) -> Float32[np.ndarray, "n d"]:
        """Embeddings, a batch at a time."""
        run = partial(_embed, self.encode)
        return map_batches(run, images.__getitem__, len(images), _BATCH)

    def _shapes(self, size: tuple[int, int]) -> Any:
        """The encoding of a picture of this size, without its values."""
        picture = np.zeros((1, *size, self.backbone.preprocess.channels), np.float32)
        return jax.eval_shape(self.encode, picture)

    def grid(self) -> tuple[int, int]:
        """Rows and columns of its maps."""
        return self._shapes(self.size).activations.shape[1:3]

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether pictures of another size get embeddings of the same dimension."""
        try:
            return self._shapes(size).embeddings.shape[1] == self.backbone.embedding_dim
        except ValueError:
            return False

    def with_model(self, model: Any) -> "Network":
        """The same with another model in the backbone's place, explained at the same layer."""
        backbone = replace(self.backbone, model=model)
        encode = replace(self.encode, network=fam_jax.capture(backbone, self.encode.at).network)
        return replace(self, backbone=backbone, encode=encode)

    def stages(self) -> list[tuple[str, ...]]:
        """Its parts as they run, a transformer's blocks singly; norms stand with what they follow.

        Parts that do not run by themselves come first, those without parameters are left out.
        """
        model, names = self.backbone.model, frameworks.layers(self.backbone.model)
        parts = [name for name in names if re.fullmatch(r"(?!blocks$)[^.]+|blocks\.[^.]+", name)]
        tapped = frameworks.with_layers(self.encode.network, tuple(parts))
        picture = jnp.zeros((1, *self.size, self.backbone.preprocess.channels))
        run = tap_names(tapped, picture)
        stages: list[tuple[str, ...]] = []
        for name in [*(part for part in parts if part not in run), *run]:
            axes = frameworks.parameter_axes(model, name)
            if stages and 0 < axes < 2:
                stages[-1] += (name,)
            elif axes:
                stages.append((name,))
        return stages


@jax.jit
def _embed(encode, images):
    return encode(images).embeddings
