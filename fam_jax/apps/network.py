"""From the options of a command to a network that can be explained."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fam_jax
from fam_jax._core import frameworks
from fam_jax._core.brief import legible
from fam_jax._core.checks import check_choice
from fam_jax._core.chunks import map_batches
from fam_jax._core.gates import GATES
from fam_jax.io import pictures

if TYPE_CHECKING:
    from pretrained_ports import Backbone, Preprocess, TextBackbone
    from pretrained_ports.checkpoints import Checkpoint
else:
    Backbone = Checkpoint = Preprocess = TextBackbone = (
        Any  # imported by those commands alone that need one
    )

RANDOM = "random"  # in place of a checkpoint file
HEADS = ("drop", "keep")
COMPUTE = ("float32", "bfloat16")
_SMALLEST = 8  # pixels of a side
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Network:
    """A backbone, with a preprocessing for the size that was asked for, at one of its layers."""

    backbone: Backbone
    encode: fam_jax.Encoder
    head: str  # whether a projection head was dropped or kept
    compute: str  # type of its parameters, and of the computation

    @property
    def preprocess(self) -> Preprocess:
        """One picture -> float32 [H, W, c]."""
        return self.backbone.preprocess

    @property
    def fit(self) -> str:
        """What it sees of a picture: crop, pad, or stretch (all of it, out of shape)."""
        own = self.preprocess
        return "stretch" if (own.fit, own.resize) == ("crop", None) else own.fit

    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "model": self.backbone.name,
            "weights": weight_facts(self.backbone),
            **self.part(),
            "head": self.head,
            "layer": self.encode.at,
            "gates": self.encode.gates,
            "image_size": list(self.preprocess.size),
        }

    def part(self) -> dict[str, Any]:
        """What was chosen of a checkpoint: its entry of several, its grid that is no square."""
        report, variant = self.backbone.report, getattr(self.backbone.model, "variant", None)
        part: dict[str, Any] = {"entry": report.entry} if report and report.entry else {}
        if report and variant is not None and len({*variant.rows_columns}) > 1:
            part["grid"] = list(variant.rows_columns)
        return part

    def settings(self) -> dict[str, Any]:
        """What a store keeps: the same wherever the file of the weights lies."""
        facts = self.facts()
        file = facts.pop("weights").get("sha256")
        weights = {"weights_sha256": file} if self.backbone.report else {"weights": RANDOM}
        # Each for itself, so that the difference between two stores can be told.
        prepared = {**vars(self.preprocess), "fit": self.fit}
        del prepared["size"]  # the image size
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in prepared.items()}
        return {**facts, "compute": self.compute, **values, **weights}

    def embed(
        self, given: Iterable[str | Path], reader: pictures.Reader | None = None
    ) -> "Embedded":
        """The embeddings of pictures and of those in folders, a batch in memory at a time.

        ValueError if none can be read, or an embedding is not finite.
        """
        paths, left_out = [], {}
        for path in given:
            try:
                paths += pictures.find([path])
            except OSError as error:
                left_out[str(path)] = str(error)
        blank = np.zeros((*self.preprocess.size, self.preprocess.channels), np.float32)

        def load(rows: slice) -> np.ndarray:
            read = {
                path: self.preprocess(picture)
                for path, picture in pictures.readable(paths[rows], left_out, reader)
            }
            return np.stack([read.get(path, blank) for path in paths[rows]])

        run = jax.jit(lambda encode, images: encode(images).embeddings)
        z = map_batches(partial(run, self.encode), load, len(paths), _BATCH) if paths else ()
        pairs = zip(paths, z, strict=True)
        kept = [(path, row) for path, row in pairs if str(path) not in left_out]
        if left_out and not kept:
            raise ValueError("; ".join(left_out.values()))
        for path, row in kept:
            if not np.isfinite(row.astype(np.float32)).all():
                raise ValueError(
                    f"{legible(path)}: its embedding, computed in {row.dtype}, is not finite"
                )
        rows = jnp.asarray(np.stack([row for _, row in kept])) if kept else None
        return Embedded([path for path, _ in kept], rows, left_out)


class Embedded(NamedTuple):
    """Pictures that could be read, their embeddings [n, d], and why others could not."""

    paths: list[Path]
    embeddings: Array | None  # of no pictures
    left_out: dict[str, str]


def check(head: str, gates: str | None = None, compute: str = "float32") -> None:
    """Raise ValueError for what is none of an option's values."""
    check_choice("--head", head, HEADS)
    check_choice("--compute", compute, COMPUTE)
    if gates is not None:
        check_choice("--gates", gates, GATES)


def open_network(
    model: str,
    weights: "str | Path | Checkpoint | None" = None,
    head: str = "drop",
    layer: str | None = None,
    gates: str | None = None,
    image_size: int | Sequence[int] | None = None,
    compute: str = "float32",
    entry: str | None = None,
    grid: Sequence[int] | None = None,
) -> Network:
    """The network that the options name; None is the backbone's own.

    `weights` may be RANDOM, or a checkpoint that is read, `image_size` the side of the pictures in
    pixels, or height and width. Refused with one line: a size that the network does not take, a map
    of one cell.
    """
    import pretrained_ports

    check(head, gates, compute)
    dtype = jnp.dtype(compute)
    if str(weights) != RANDOM:
        keep = cast(Literal["drop", "keep"], head)
        backbone = pretrained_ports.load(
            model,
            weights,
            param_dtype=dtype,
            head=keep,
            entry=entry,
            grid=None if grid is None else (grid[0], grid[1]),
        )
    elif head == "keep":
        raise ValueError("--head keep: random weights have no projection head")
    elif entry is not None:
        raise ValueError("--entry names a part of a checkpoint; random weights have none")
    elif grid is not None:
        raise ValueError("--grid is that of a checkpoint's positions; random weights have none")
    else:
        backbone = pretrained_ports.create(model, param_dtype=dtype)
    backbone = _for_size(backbone, image_size)
    encode = fam_jax.capture(
        backbone.model,
        at=layer or backbone.layer,
        tokens=backbone.tokens,
        gates=gates or backbone.gates,
    )
    _check_grid(backbone, encode)
    return Network(backbone, encode, head, compute)


def _for_size(backbone: Backbone, size: int | Sequence[int] | None) -> Backbone:
    """The backbone with a preprocessing for pictures of another size; as it is for None."""
    if size is None:
        return backbone
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < _SMALLEST:
        raise ValueError(f"--image-size: expected at least {_SMALLEST} pixels, got {size}")
    before, longer = backbone.preprocess, max(height, width)
    shorter = before.resize and max(longer, round(before.resize * longer / max(before.size)))
    return replace(backbone, preprocess=replace(before, size=(height, width), resize=shorter))


def weight_facts(backbone: "Backbone | TextBackbone") -> dict[str, Any]:
    """What the manifest says of a model's weights."""
    if backbone.report is None:
        return {"source": backbone.source}
    from pretrained_ports.checkpoints.readers import sha256

    file = backbone.report.source
    return {"source": backbone.source, "path": file, "sha256": sha256(file)}


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
        with suppress(ValueError):
            if "." not in name:
                other = fam_jax.capture(backbone.model, at=name, tokens=backbone.tokens)
                rows, columns = _grid(backbone, other)
                sizes += [f"{name} ({rows} x {columns})"] if rows * columns > 1 else []
    raise ValueError(
        f"the layer {encode.at!r} leaves a map of 1 x 1 for pictures of {height} x {width} pixels; "
        f"take a larger --image-size, or an earlier one with --layer: {', '.join(sizes)}"
    )


def _grid(backbone: Backbone, encode: fam_jax.Encoder) -> tuple[int, int]:
    """Rows and columns of its maps."""
    shape = (1, *backbone.preprocess.size, backbone.preprocess.channels)
    picture = jax.ShapeDtypeStruct(shape, "float32")
    return jax.eval_shape(encode, picture).activations.shape[1:3]
