"""What the tasks share: how cases are drawn from pictures, and what is embedded of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fam_jax.evaluate import data
from fam_jax.evaluate.cases import Batch
from fam_jax.evaluate.network import Network
from fam_jax.io.pictures import Reader


@dataclass(frozen=True)
class Options:
    """What a task is drawn with."""

    data: str  # a folder, a file, or "photographs"
    cases: int = 100  # at most
    seed: int = 0  # of every draw
    way: int = 5  # classes of an episode
    shot: int = 5  # supports of a class
    neighbours: int = 20  # the nearest, which vote
    steps: int = 32  # of a deletion or insertion
    window: tuple[float | int, float | int] | None = None  # black and white of deep grey pictures
    page: int | None = None  # of files with several

    @property
    def reader(self) -> Reader:
        """How pictures are read."""
        return Reader(self.window, self.page)

    def facts(self) -> dict[str, Any]:
        """What a run's folder says of it: the usual way of reading is not said."""
        facts = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {name: fact for name, fact in facts.items() if fact is not None}


class Embedded(NamedTuple):
    """Pictures as the network sees them, n of each; `classes` numbers the labels."""

    names: list[str]
    labels: np.ndarray
    pixels: np.ndarray
    images: np.ndarray
    embeddings: np.ndarray
    classes: np.ndarray

    def batch(self, **more: Any) -> Batch:
        """A case for each, with what they are compared with."""
        return Batch(self.names, self.pixels, self.images, **more)


def embedded(network: Network, pictures: Sequence[data.Picture]) -> Embedded:
    """What the network makes of pictures; two lots with the same labels number them alike."""
    pixels = network.views(picture.image for picture in pictures)
    images = network.prepare(pixels)
    names, labels = [p.name for p in pictures], np.array([p.label for p in pictures])
    classes = np.unique(labels, return_inverse=True)[1]
    return Embedded(names, labels, pixels, images, network.embed(images), classes)


def both_sides(
    network: Network, options: Options, rng: np.random.Generator
) -> tuple[Embedded, Embedded, list[str]]:
    """Queries and gallery of the data, of the same classes, and what was left out of it."""
    queries, gallery, left_out = data.classes(options.data, rng, options.reader)
    return embedded(network, queries), embedded(network, gallery), left_out


def scores_of(network: Network, z: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Every similarity, [q, r], a query's at a time."""
    score = network.similarity.score
    return np.stack([np.asarray(score(np.broadcast_to(one, r.shape), r)) for one in z])


def of_other_classes(classes: np.ndarray, not_these: np.ndarray, rng: np.random.Generator):
    """For each query the place of a random member of another class than its own."""
    return np.array([rng.choice(np.flatnonzero(classes != c)) for c in not_these])


def some_of(count: int, rng: np.random.Generator, most: int = 256) -> np.ndarray:
    """At most so many of the first `count` numbers, in random order."""
    return rng.permutation(count)[:most]
