"""The tasks: who is compared with whom, by which reference, against which background.

fewshot        a query with the prototype of the class it is given; against the other prototypes
contrastive    a query with the mean of its k nearest neighbours of the class they vote for
retrieval      a query with its nearest picture of the gallery
verification   the pictures of a pair
mosaic         four pictures in one with a picture of the class of one of them
localization   a picture with the mean of the objects in the other pictures; against what is beside
sanity         as retrieval
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fam_jax
from fam_jax import metrics
from fam_jax._core.checks import check_choice
from fam_jax.evaluate import data
from fam_jax.evaluate.cases import Batch, Cases, in_batches
from fam_jax.evaluate.drawing import Options as Options
from fam_jax.evaluate.drawing import both_sides, embedded, of_other_classes, scores_of, some_of
from fam_jax.evaluate.measures import MEASURES
from fam_jax.evaluate.network import Network
from fam_jax.evaluate.places import localization, mosaic

Build = Callable[[Network, Options, np.random.Generator], Cases]


class Task(NamedTuple):
    """A way to draw cases, and the names of what is measured of the maps, in `MEASURES`."""

    build: Build
    measures: tuple[str, ...]


def find(name: str) -> Task:
    """A task; ValueError that names the nearest if there is none of that name."""
    check_choice("task", name, TASKS)
    return TASKS[name]


def register_task(name: str, build: Build, measures: Sequence[str]) -> None:
    """Add a task of your own, for `fam-jax evaluate NAME` and `evaluate`.

    `build` is (network, options, random numbers) -> `Cases`; `measures` are names in `MEASURES`.
    """
    if name in TASKS:
        raise ValueError(f"name: {name!r} is another task's")
    for measure in measures:
        check_choice("measures", measure, MEASURES)
    TASKS[name] = Task(build, tuple(measures))


def build(task: str, network: Network, options: Options) -> Cases:
    """The cases of a task; ValueError or OSError if the data has none."""
    return find(task).build(network, options, np.random.default_rng(options.seed))


def _fewshot(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    left_out = []
    if options.data != data.PHOTOGRAPHS and data.is_omniglot(options.data):
        every = data.omniglot_runs(options.data, options.reader)
        about = "Omniglot's official 20-way one-shot runs"
    else:
        classes = data.classes(options.data, rng, options.reader)
        left_out = classes.left_out
        count = -(-options.cases // (3 * options.way))
        every = data.episodes(classes, rng, way=options.way, shot=options.shot, count=count)
        about = f"{count} episodes, {options.way}-way {options.shot}-shot"
    batches, right = zip(*[_episode(network, episode) for episode in every], strict=True)
    hits = np.concatenate(right)
    size, left, kept = max(map(len, batches)), options.cases, []
    for batch in batches:
        if left > 0:
            kept += in_batches(batch.take(range(min(len(batch), left))), size)
            left -= len(batch)
    figures = {"accuracy": float(np.mean(hits)), "queries": len(hits)}
    return Cases(kept, figures, about, left_out)


def _episode(network: Network, episode: data.Episode) -> tuple[Batch, np.ndarray]:
    """The queries, and for which of them the nearest prototype is the right one."""
    support, queries = embedded(network, episode.support), embedded(network, episode.queries)
    count = len(np.unique(support.classes))
    prototypes = np.asarray(fam_jax.prototypes(support.embeddings, support.classes, count))
    order = np.argsort(-scores_of(network, queries.embeddings, prototypes), axis=1)
    batch = queries.batch(
        references=prototypes[order[:, 0]],
        swapped=prototypes[order[:, 1]],
        background=prototypes,
        prototypes=prototypes,
    )
    return batch, order[:, 0] == queries.classes


def _contrastive(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    queries, gallery, left_out = both_sides(network, options, rng)
    k = min(options.neighbours, len(gallery.names))
    near = fam_jax.neighbours(queries.embeddings, gallery.embeddings, k=k, labels=gallery.classes)
    votes = np.asarray(near.labels)
    correct = votes == queries.classes
    whole = queries.batch(
        references=np.asarray(near.reference),
        swapped=gallery.embeddings[of_other_classes(gallery.classes, votes, rng)],
        background=gallery.embeddings[some_of(len(gallery.names), rng)],
    )
    figures = {f"{k}-NN accuracy": float(correct.mean()), "queries": len(correct)}
    drawn = whole.take(np.sort(some_of(len(whole), rng, options.cases)))
    return Cases.of(drawn, figures, f"{k} nearest of {len(gallery.names)}", left_out)


def _retrieval(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    queries, gallery, left_out = both_sides(network, options, rng)
    nearest = np.argmax(scores_of(network, queries.embeddings, gallery.embeddings), axis=1)
    correct = gallery.classes[nearest] == queries.classes
    swapped = of_other_classes(gallery.classes, gallery.classes[nearest], rng)
    far = some_of(len(gallery.names), rng)
    whole = queries.batch(
        references=gallery.embeddings[nearest],
        others=gallery.images[nearest],
        swapped=gallery.embeddings[swapped],
        swapped_others=gallery.images[swapped],
        background=gallery.embeddings[far],
        background_images=gallery.images[far],
    )
    figures = {"recall@1": float(correct.mean()), "queries": len(correct)}
    drawn = whole.take(np.sort(some_of(len(whole), rng, options.cases)))
    return Cases.of(drawn, figures, f"nearest of {len(gallery.names)}", left_out)


def _verification(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    if Path(options.data).suffix.lower() == ".csv":
        pairs, left_out = data.pairs_file(Path(options.data), options.reader)
        pairs = [pairs[i] for i in np.sort(some_of(len(pairs), rng, options.cases))]
    else:
        classes = data.classes(options.data, rng, options.reader)
        pairs, left_out = data.drawn_pairs(classes, rng, options.cases), classes.left_out
    first = embedded(network, [pair.first for pair in pairs])
    second = embedded(network, [pair.second for pair in pairs])
    names = [f"{a} ~ {b}" for a, b in zip(first.names, second.names, strict=True)]
    same = np.array([pair.same for pair in pairs])
    scores = np.asarray(network.similarity.score(first.embeddings, second.embeddings))
    threshold = float(metrics.eer_threshold(scores, same))
    correct = (scores >= threshold) == same
    r = second.embeddings
    whole = first._replace(names=names).batch(
        references=r,
        swapped=np.roll(r, len(r) // 2 + 1, axis=0),
        background=r[some_of(len(r), rng)],
        others=second.images,
        same=same,
    )
    figures = {"accuracy": float(correct.mean()), "threshold": threshold, "pairs": len(pairs)}
    return Cases.of(whole, figures, f"{len(pairs)} pairs", left_out)


TASKS = {
    "fewshot": Task(_fewshot, ("faithfulness", "road", "fidelity")),
    "contrastive": Task(
        _contrastive,
        (
            "faithfulness",
            "road",
        ),
    ),
    "retrieval": Task(_retrieval, ("faithfulness", "road", "pairs")),
    "verification": Task(_verification, ("faithfulness", "road", "pairs", "decisions")),
    "mosaic": Task(mosaic, ("place",)),
    "localization": Task(localization, ("place", "region", "faithfulness", "road")),
    "sanity": Task(_retrieval, ("sanity", "randomisation")),
}
