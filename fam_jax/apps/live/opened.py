"""What is opened once for all who use the page: a network, its layers, and what it can answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image

import fam_jax
from fam_jax import methods
from fam_jax._core.brief import legible
from fam_jax.apps import models, pairs
from fam_jax.apps.network import Network
from fam_jax.apps.options import SIMILARITIES
from fam_jax.evaluate.asking import Question, made, refusal
from fam_jax.io import files
from fam_jax.io.pictures import READER, Reader, tried
from fam_jax.methods.pairs import position_pairs
from fam_jax.methods.registry import entry

if TYPE_CHECKING:
    from pretrained_ports import TextBackbone
else:
    TextBackbone = Any


class Picture(NamedTuple):
    """A picture that was given, by the name that its owner knows."""

    name: str
    path: Path
    image: Image.Image


class Background(NamedTuple):
    """What a pair is to be more alike than: embeddings [n, d], or none; and what is said of it."""

    embeddings: np.ndarray | None = None
    called: str = ""
    files: Sequence[Mapping[str, Any]] = ()
    sentences: Sequence[str] = ()
    left_out: Mapping[str, str] = {}


@dataclass(frozen=True, eq=False)
class Opened:
    """A network with its layers that leave maps, its own first, and the methods it can answer."""

    net: Network
    layers: Sequence[str]
    methods: Sequence[str]
    facts: Mapping[str, Any]
    tower: TextBackbone | None = None
    reader: Reader = READER
    fit: str | None = None
    similarity_name: str = "cosine"
    gates: str | None = None

    @property
    def similarity(self) -> fam_jax.Similarity:
        """What is explained."""
        return SIMILARITIES[self.similarity_name]

    def at(self, layer: str) -> Network:
        """The network explained at another layer."""
        if layer == self.net.encode.at:
            return self.net
        backbone = self.net.backbone
        encode = fam_jax.capture(
            backbone.model, at=layer, tokens=backbone.tokens, gates=self.net.encode.gates
        )
        return replace(self.net, encode=replace(encode, preprocess=self.net.encode.preprocess))

    def read(self, path: Path, name: str = "") -> Picture:
        """A picture, within the limits of every command; ValueError that calls it by its name."""
        name = name or path.name
        image, reason = tried(self.reader, path)
        if image is None:
            raise ValueError(reason.replace(legible(path), legible(name)))
        return Picture(name, path, image)

    def embed(self, image: Image.Image) -> np.ndarray:
        """The embedding [1, d] of a picture."""
        return np.asarray(self.net.encode(self.net.preprocess(image)[None]).embeddings)

    def background(self, paths: Sequence[Path], sentences: Sequence[str] = ()) -> Background:
        """Of pictures, those that can be read, or of sentences."""
        if sentences:
            if self.tower is None:
                raise ValueError(f"{self.net.backbone.name} knows no sentences")
            return Background(
                np.asarray(self.tower(sentences)), "the other sentences", (), sentences
            )
        rows, facts, left_out = [], [], {}
        for path in paths:
            try:
                picture = self.read(path)
            except ValueError as error:
                left_out[path.name] = str(error)
                continue
            row = self.embed(picture.image)
            if not np.isfinite(row).all():
                raise ValueError(f"{legible(path.name)}: its embedding is not finite")
            rows.append(row)
            facts.append(named_facts(picture))
        if left_out and not rows:
            raise ValueError("; ".join(left_out.values()))
        bank = np.concatenate(rows) if rows else None
        return Background(bank, "the background" if rows else "", facts, (), left_out)


def named_facts(picture: Picture) -> dict[str, str]:
    """What a manifest says of a picture's file, by its name: where it lies here says nothing."""
    return files.file_facts(picture.path) | {"path": picture.name}


def layers(net: Network) -> list[str]:
    """The layers that leave maps of more than a cell, the network's own first."""
    from pretrained_ports.catalog import ENTRIES, describe

    row = ENTRIES[net.backbone.name]
    grids = {
        layer.path: models.grid_of(layer.shape, row) for layer in describe.layers(net.backbone.name)
    }
    with_maps = [path for path, grid in grids.items() if grid and prod(grid) > 1]
    return list(dict.fromkeys([net.encode.at, *with_maps]))


def answerable(net: Network, similarity: fam_jax.Similarity, names: Iterable[str]) -> list[str]:
    """Those of the methods that this network can answer.

    They are asked, so that their programs are compiled before anyone waits for them; those of many
    passes are compiled when somebody asks.
    """
    height, width = net.preprocess.size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    view = net.preprocess.open(Image.fromarray(noise))
    images = view.input[None]
    z = np.asarray(net.encode(images).embeddings)
    bank = np.concatenate([z, -z])
    question = Question(images, z, bank, images)
    kept = []
    for name in names:
        if entry(name).copies:
            if refusal(net.encode, similarity, name, question) is None:
                kept.append(name)
            continue
        try:
            pairs.of_pictures(net.encode, [(view, view)], made(name, similarity, bank))
        except (TypeError, ValueError):
            continue
        kept.append(name)
    return kept


def warm_points(net: Network, similarity: fam_jax.Similarity) -> None:
    """Compile what a click asks for."""
    enc = net.encode(jnp.zeros((1, *net.preprocess.size, net.preprocess.channels)))
    if similarity is not fam_jax.euclidean:
        position_pairs(enc, enc, similarity)


def open_(
    net: Network,
    names: Iterable[str] | None = None,
    *,
    similarity: str = "cosine",
    **options: Any,
) -> Opened:
    """The network with what it can answer; `names` are the methods to try, all if not given."""
    compared = SIMILARITIES[similarity]
    answered = answerable(net, compared, methods.names() if names is None else names)
    warm_points(net, compared)
    return Opened(net, layers(net), answered, net.facts(), similarity_name=similarity, **options)
