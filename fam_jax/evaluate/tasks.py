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
from fam_jax._core.checks import check_choice
from fam_jax.evaluate import data
from fam_jax.evaluate.cases import Batch, Cases, in_batches
from fam_jax.evaluate.drawing import (
    BATCH,
    MOST,
    drawn,
    gallery_of,
    of_other_classes,
    queries_of,
    scores_of,
    some_of,
)
from fam_jax.evaluate.drawing import Options as Options
from fam_jax.evaluate.measures import MEASURES
from fam_jax.evaluate.network import Network, views
from fam_jax.evaluate.places import localization, mosaic


class Task(NamedTuple):
    """A way to draw cases, and what is measured of the maps.

    Attributes:
        build: (network, options, random numbers) -> cases.
        measures: names of `measures.MEASURES`.
    """

    build: Callable[[Network, Options, np.random.Generator], Cases]
    measures: tuple[str, ...]


def names() -> list[str]:
    """The names of all tasks."""
    return list(_TASKS)


def find(name: str) -> Task:
    """A task; ValueError that names the nearest if there is none of that name."""
    check_choice("task", name, _TASKS)
    return _TASKS[name]


def register_task(
    name: str,
    build: Callable[[Network, Options, np.random.Generator], Cases],
    measures: Sequence[str],
) -> None:
    """Add a task of your own, for `fam-jax evaluate NAME` and `evaluate`.

    Args:
        name: no other's.
        build: (network, options, random numbers) -> `Cases`.
        measures: what is measured, of `MEASURES`.

    Raises:
        ValueError: the name is another task's, or an unknown measure.
    """
    if name in _TASKS:
        raise ValueError(f"name: {name!r} is another task's")
    for measure in measures:
        check_choice("measures", measure, MEASURES)
    _TASKS[name] = Task(build, tuple(measures))


def build(task: str, network: Network, options: Options) -> Cases:
    """The cases of a task.

    Raises:
        ValueError, OSError: if the data has none.
    """
    return find(task).build(network, options, np.random.default_rng(options.seed))


def _fewshot(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    left_out = []
    if options.data != data.PHOTOGRAPHS and data.is_omniglot(options.data):
        every, about = data.omniglot_runs(options.data), "Omniglot's official 20-way one-shot runs"
    else:
        found = data.classes(options.data, rng)
        left_out = found.left_out
        per = 3 * options.way
        count = -(-options.cases // per)
        every = data.episodes(found, rng, way=options.way, shot=options.shot, count=count)
        about = f"{count} episodes, {options.way}-way {options.shot}-shot"
    batches, hits = [], []
    for episode in every:
        batch = _episode(network, episode)
        assert batch.correct is not None
        hits += batch.correct.tolist()
        batches.append(batch)
    size = max(map(len, batches))
    kept, total = [], 0
    for batch in batches:
        if total < options.cases:
            rows = range(min(len(batch), options.cases - total))
            kept.append(batch.take(rows).filled(size))
            total += len(kept[-1])
    figures = {"accuracy": float(np.mean(hits)), "queries": len(hits)}
    return Cases(kept, figures, about, left_out)


def _episode(network: Network, episode: data.Episode) -> Batch:
    labels = sorted({picture.label for picture in episode.support})
    number = {label: i for i, label in enumerate(labels)}
    support = network.embed(network.prepare(views(network, episode.support)))
    classes = np.array([number[picture.label] for picture in episode.support])
    prototypes = np.asarray(fam_jax.prototypes(support, classes, len(labels)))
    pixels = views(network, episode.queries)
    images = network.prepare(pixels)
    scores = scores_of(network.similarity, network.embed(images), prototypes)
    order = np.argsort(-scores, axis=1)
    truth = np.array([number[picture.label] for picture in episode.queries])
    return Batch(
        [picture.name for picture in episode.queries],
        pixels,
        images,
        references=prototypes[order[:, 0]],
        swapped=prototypes[order[:, 1]],
        background=prototypes,
        prototypes=prototypes,
        correct=order[:, 0] == truth,
    )


def _contrastive(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    found = data.classes(options.data, rng)
    gallery, labels, number = gallery_of(network, found.gallery)
    k = min(options.neighbours, len(gallery))
    pixels, images, z, truth, names = queries_of(network, found, number)
    near = fam_jax.neighbours(z, gallery, k=k, labels=labels)
    correct = np.asarray(near.labels) == truth
    whole = Batch(
        names,
        pixels,
        images,
        references=np.asarray(near.reference),
        swapped=gallery[of_other_classes(labels, np.asarray(near.labels), rng)],
        background=some_of(gallery, rng),
        correct=correct,
    )
    figures = {f"{k}-NN accuracy": float(correct.mean()), "queries": len(z)}
    return drawn(whole, figures, options, rng, f"{k} nearest of {len(gallery)}", found.left_out)


def _retrieval(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    found = data.classes(options.data, rng)
    gallery, labels, number = gallery_of(network, found.gallery)
    pixels, images, z, truth, names = queries_of(network, found, number)
    nearest = np.argmax(scores_of(network.similarity, z, gallery), axis=1)
    correct = labels[nearest] == truth
    swapped = of_other_classes(labels, labels[nearest], rng)
    far = rng.permutation(len(gallery))[:MOST]

    def seen(rows: np.ndarray) -> np.ndarray:
        return network.prepare(views(network, [found.gallery[i] for i in rows]))

    whole = Batch(
        names,
        pixels,
        images,
        references=gallery[nearest],
        others=seen(nearest),
        swapped=gallery[swapped],
        swapped_others=seen(swapped),
        background=gallery[far],
        background_images=seen(far),
        correct=correct,
    )
    figures = {"recall@1": float(correct.mean()), "queries": len(z)}
    return drawn(whole, figures, options, rng, f"nearest of {len(gallery)}", found.left_out)


def _verification(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    if options.data != data.PHOTOGRAPHS and Path(options.data).suffix.lower() == ".csv":
        pairs, left_out = data.pairs_file(Path(options.data))
        pairs = [pairs[i] for i in sorted(rng.permutation(len(pairs))[: options.cases])]
    else:
        found = data.classes(options.data, rng)
        pairs, left_out = data.drawn_pairs(found, rng, options.cases), found.left_out
    from fam_jax.metrics import eer_threshold

    first, second = [pair.first for pair in pairs], [pair.second for pair in pairs]
    pixels = views(network, first)
    images, others = network.prepare(pixels), network.prepare(views(network, second))
    z, r = network.embed(images), network.embed(others)
    same = np.array([pair.same for pair in pairs])
    scores = np.asarray(network.similarity.score(z, r))
    threshold = float(eer_threshold(scores, same))
    correct = (scores >= threshold) == same
    whole = Batch(
        [f"{a.name} ~ {b.name}" for a, b in zip(first, second, strict=True)],
        pixels,
        images,
        references=r,
        swapped=np.roll(r, len(r) // 2 + 1, axis=0),
        background=some_of(r, rng),
        others=others,
        same=same,
        correct=correct,
    )
    figures = {"accuracy": float(correct.mean()), "threshold": threshold, "pairs": len(pairs)}
    return Cases(in_batches(whole, BATCH), figures, f"{len(pairs)} pairs", left_out)


_TASKS = {
    "fewshot": Task(_fewshot, ("faithfulness", "fidelity")),
    "contrastive": Task(_contrastive, ("faithfulness",)),
    "retrieval": Task(_retrieval, ("faithfulness", "pairs")),
    "verification": Task(_verification, ("faithfulness", "pairs", "decisions")),
    "mosaic": Task(mosaic, ("place",)),
    "localization": Task(localization, ("place", "region", "faithfulness")),
    "sanity": Task(_retrieval, ("sanity",)),
}
