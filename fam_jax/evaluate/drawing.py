"""What the tasks share: how cases are drawn from pictures, and what is embedded of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import fam_jax
from fam_jax.evaluate import data
from fam_jax.evaluate.cases import Batch, Cases, in_batches
from fam_jax.evaluate.network import Network, views

BATCH = 16
MOST = 256  # pictures of a gallery that make a background


@dataclass(frozen=True)
class Options:
    """What a task is drawn with.

    Attributes:
        data: a folder, a file, or "photographs".
        cases: how many at most.
        seed: of every draw.
        way: classes of an episode.
        shot: supports of a class.
        neighbours: k of the nearest neighbours that vote.
        steps: of a deletion or insertion.
    """

    data: str
    cases: int = 100
    seed: int = 0
    way: int = 5
    shot: int = 5
    neighbours: int = 20
    steps: int = 32


def scores_of(similarity: fam_jax.Similarity, z: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Every score, [q, r], a query's at a time."""
    return np.stack([np.asarray(similarity.score(np.broadcast_to(one, r.shape), r)) for one in z])


def gallery_of(
    network: Network, pictures: Sequence[data.Picture]
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Embeddings [n, d] and classes [n] of the gallery, and the number of every class."""
    number = {label: i for i, label in enumerate(sorted({p.label for p in pictures}))}
    embeddings = network.embed(network.prepare(views(network, pictures)))
    return embeddings, np.array([number[p.label] for p in pictures]), number


def queries_of(
    network: Network, found: data.Classes, number: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Pixels, inputs, embeddings, true classes and names of the queries."""
    pixels = views(network, found.queries)
    images = network.prepare(pixels)
    truth = np.array([number[picture.label] for picture in found.queries])
    names = [picture.name for picture in found.queries]
    return pixels, images, network.embed(images), truth, names


def of_other_classes(labels: np.ndarray, not_these: np.ndarray, rng: np.random.Generator):
    """For each query a random member of the gallery of another class than its own."""
    return np.array([rng.choice(np.flatnonzero(labels != c)) for c in not_these])


def some_of(embeddings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A background: at most `MOST` of the embeddings."""
    return embeddings[rng.permutation(len(embeddings))[:MOST]]


def drawn(whole: Batch, figures, options: Options, rng, about: str, left_out) -> Cases:
    """At most `options.cases` of the queries, drawn by `rng`."""
    chosen = whole.take(np.sort(rng.permutation(len(whole))[: options.cases]))
    return Cases(in_batches(chosen, BATCH), figures, about, left_out)
