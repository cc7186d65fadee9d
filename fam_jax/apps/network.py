"""From the options of a command to a network that can be explained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fam_jax
from fam_jax._core import frameworks
from fam_jax._core.checks import check_choice
from fam_jax._core.chunks import map_batches
from fam_jax.io import files, pictures

if TYPE_CHECKING:
    from pretrained_ports import Backbone, Preprocess, TextBackbone
else:
    Backbone = Preprocess = TextBackbone = Any  # imported by those commands alone that need one

RANDOM = "random"  # in place of a checkpoint file
HEADS = ("drop", "keep")
COMPUTE = ("float32", "bfloat16")
_SMALLEST = 8  # pixels of a side
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Network:
    """A backbone at one of its layers.

    Attributes:
        backbone: with a preprocessing for the size that was asked for.
        encode: its encoder at the layer.
        head: whether a projection head was dropped or kept.
        compute: type of its parameters, and of the computation.
    """

    backbone: Backbone
    encode: fam_jax.Encoder
    head: str
    compute: str

    @property
    def preprocess(self) -> Preprocess:
        """One picture -> float32 [H, W, c]."""
        return self.backbone.preprocess

    @property
    def random(self) -> bool:
        """Whether its weights are random."""
        return self.backbone.report is None

    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "model": self.backbone.name,
            "weights": weight_facts(self.backbone),
            "head": self.head,
            "layer": self.encode.at,
            "image_size": list(self.preprocess.size),
        }

    def settings(self) -> dict[str, Any]:
        """What a store keeps: the same wherever the file of the weights lies."""
        facts = self.facts()
        weights = facts.pop("weights")
        known = {"weights": RANDOM} if self.random else {"weights_sha256": weights.get("sha256")}
        asked = {"compute": self.compute, "preprocess": repr(self.preprocess)}
        return {**facts, **asked, **known}

    def embed(self, paths: Iterable[Path]) -> Array | None:
        """Embeddings [n, d] of pictures, a batch in memory at a time; None for none."""
        paths = list(paths)
        if not paths:
            return None

        def load(rows: slice) -> np.ndarray:
            return np.stack([self.preprocess(pictures.read(path)) for path in paths[rows]])

        run = jax.jit(lambda encode, images: encode(images).embeddings)
        z = jnp.asarray(map_batches(partial(run, self.encode), load, len(paths), _BATCH))
        finite = jnp.isfinite(z).all(1).tolist()
        for path, good in zip(paths, finite, strict=True):
            if not good:
                raise ValueError(f"{path}: its embedding, computed in {z.dtype}, is not finite")
        return z


def open_network(
    model: str,
    weights: str | Path | None = None,
    head: str = "drop",
    layer: str | None = None,
    image_size: int | Sequence[int] | None = None,
    compute: str = "float32",
) -> Network:
    """The network that the options name.

    Args:
        model: a backbone's name.
        weights: a checkpoint file, or RANDOM; the backbone's own if None.
        head: "drop" or "keep" the projection head in the file.
        layer: where maps are taken; the backbone's own if None.
        image_size: side of the pictures in pixels, or height and width; the backbone's own if None.
        compute: "float32" or "bfloat16".

    Raises:
        ValueError, OSError: one line: an unknown name, weights that do not fit, a size that the
            network does not take, a layer that leaves a map of one cell.
    """
    import pretrained_ports

    check_choice("--head", head, HEADS)
    check_choice("--compute", compute, COMPUTE)
    dtype = jnp.dtype(compute)
    if str(weights) != RANDOM:
        backbone = pretrained_ports.load(
            model, weights, param_dtype=dtype, head=cast(Literal["drop", "keep"], head)
        )
    elif head == "keep":
        raise ValueError("--head keep: random weights have no projection head")
    else:
        backbone = pretrained_ports.create(model, param_dtype=dtype)
    backbone = for_size(backbone, image_size)
    at = layer or backbone.layer
    encode = fam_jax.capture(backbone.model, at=at, tokens=backbone.tokens)
    _check_grid(backbone, encode)
    return Network(backbone, encode, head, compute)


def for_size(backbone: Backbone, size: int | Sequence[int] | None) -> Backbone:
    """The backbone with a preprocessing for pictures of another size; as it is for None.

    Raises:
        ValueError: fewer than 8 pixels.
    """
    if size is None:
        return backbone
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < _SMALLEST:
        raise ValueError(f"--image-size: expected at least {_SMALLEST} pixels, got {size}")
    before, longer = backbone.preprocess, max(height, width)
    shorter = before.resize and max(longer, round(before.resize * longer / max(before.size)))
    preprocess = replace(before, size=(height, width), resize=shorter)
    return replace(backbone, preprocess=preprocess)


def weight_facts(backbone: "Backbone | TextBackbone") -> dict[str, Any]:
    """What the manifest says of a model's weights."""
    file = files.file_facts(backbone.report.source) if backbone.report else {}
    return {"source": backbone.source, **file}


def _check_grid(backbone: Backbone, encode: fam_jax.Encoder) -> None:
    """A map of one cell is no map: name the layers that leave more."""
    height, width = backbone.preprocess.size
    try:
        rows, columns = _grid(backbone, encode)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{backbone.name} cannot be explained at {encode.at!r} for pictures of {height} x "
            f"{width} pixels (--layer, --image-size): {error}"
        ) from None
    if rows * columns > 1:
        return
    sizes = []
    for name in frameworks.layers(backbone.model):
        if name.count("."):
            continue
        try:
            other = fam_jax.capture(backbone.model, at=name, tokens=backbone.tokens)
            rows, columns = _grid(backbone, other)
        except ValueError:
            continue
        if rows * columns > 1:
            sizes.append(f"{name} ({rows} x {columns})")
    raise ValueError(
        f"the layer {encode.at!r} leaves a map of 1 x 1 for pictures of {height} x {width} pixels; "
        f"take a larger --image-size, or an earlier one with --layer: {', '.join(sizes)}"
    )


def _grid(backbone: Backbone, encode: fam_jax.Encoder) -> tuple[int, int]:
    """Rows and columns of its maps."""
    shape = (1, *backbone.preprocess.size, backbone.preprocess.channels)
    picture = jax.ShapeDtypeStruct(shape, "float32")
    _, rows, columns, _ = jax.eval_shape(encode, picture).activations.shape
    return rows, columns
