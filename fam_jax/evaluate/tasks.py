"""The tasks: who is compared with whom, by which reference, against which background.

fewshot        a query with the prototype of the class it is given; against the other prototypes
contrastive    a query with the mean of its k nearest neighbours of the class they vote for
retrieval      a query with its nearest picture of the gallery
verification   the pictures of a pair
mosaic         four pictures in one with a picture of the class of one of them
localization   a picture with the mean of the objects in the other pictures; against what is beside
sanity         as retrieval
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import fam_jax
from fam_jax.evaluate import data
from fam_jax.evaluate.annotated import annotated, beside, box_of
from fam_jax.evaluate.cases import Batch, Cases, in_batches
from fam_jax.evaluate.network import Network, views
from fam_jax.similarity import normalize

TASKS = (
    "fewshot", "contrastive", "retrieval", "verification", "mosaic", "localization", "sanity",
)  # fmt: skip
_BATCH = 16
_MOST = 256  # pictures of a gallery that make a background


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
    """

    data: str
    cases: int = 100
    seed: int = 0
    way: int = 5
    shot: int = 5
    neighbours: int = 20


def build(task: str, network: Network, options: Options) -> Cases:
    """The cases of a task.

    Raises:
        ValueError, OSError: if the data has none.
    """
    rng = np.random.default_rng(options.seed)
    return _BUILDERS[task](network, options, rng)


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
    scores = _scores(network.similarity, network.embed(images), prototypes)
    order = np.argsort(-scores, axis=1)
    truth = np.array([number[picture.label] for picture in episode.queries])
    return Batch(
        [picture.name for picture in episode.queries], pixels, images,
        references=prototypes[order[:, 0]], swapped=prototypes[order[:, 1]],
        background=prototypes, prototypes=prototypes, correct=order[:, 0] == truth,
    )  # fmt: skip


def _contrastive(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    found = data.classes(options.data, rng)
    gallery, labels, number = _gallery(network, found.gallery)
    k = min(options.neighbours, len(gallery))
    pixels, images, z, truth, names = _asked(network, found, number)
    near = fam_jax.neighbours(z, gallery, k=k, labels=labels)
    correct = np.asarray(near.labels) == truth
    whole = Batch(
        names, pixels, images, references=np.asarray(near.reference),
        swapped=gallery[_of_other_classes(labels, np.asarray(near.labels), rng)],
        background=_some(gallery, rng), correct=correct,
    )  # fmt: skip
    figures = {f"{k}-NN accuracy": float(correct.mean()), "queries": len(z)}
    return _drawn(whole, figures, options, rng, f"{k} nearest of {len(gallery)}", found.left_out)


def _retrieval(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    found = data.classes(options.data, rng)
    gallery, labels, number = _gallery(network, found.gallery)
    pixels, images, z, truth, names = _asked(network, found, number)
    nearest = np.argmax(_scores(network.similarity, z, gallery), axis=1)
    correct = labels[nearest] == truth
    swapped = _of_other_classes(labels, labels[nearest], rng)
    far = rng.permutation(len(gallery))[:_MOST]

    def seen(rows: np.ndarray) -> np.ndarray:
        return network.prepare(views(network, [found.gallery[i] for i in rows]))

    whole = Batch(
        names, pixels, images, references=gallery[nearest], others=seen(nearest),
        swapped=gallery[swapped], swapped_others=seen(swapped),
        background=gallery[far], background_images=seen(far), correct=correct,
    )  # fmt: skip
    figures = {"recall@1": float(correct.mean()), "queries": len(z)}
    return _drawn(whole, figures, options, rng, f"nearest of {len(gallery)}", found.left_out)


def _verification(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    if options.data != data.PHOTOGRAPHS and Path(options.data).suffix.lower() == ".csv":
        pairs, left_out = data.pairs_file(Path(options.data))
        pairs = [pairs[i] for i in sorted(rng.permutation(len(pairs))[: options.cases])]
    else:
        found = data.classes(options.data, rng)
        pairs, left_out = data.drawn_pairs(found, rng, options.cases), found.left_out
    from fam_jax.metrics import eer_threshold

    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    pixels = views(network, first)
    images, others = network.prepare(pixels), network.prepare(views(network, second))
    z, r = network.embed(images), network.embed(others)
    same = np.array([pair.same for pair in pairs])
    scores = np.asarray(network.similarity.score(z, r))
    threshold = float(eer_threshold(scores, same))
    correct = (scores >= threshold) == same
    whole = Batch(
        [f"{a.name} ~ {b.name}" for a, b in zip(first, second, strict=True)], pixels, images,
        references=r, swapped=np.roll(r, len(r) // 2 + 1, axis=0), background=_some(r, rng),
        others=others, same=same, correct=correct,
    )  # fmt: skip
    figures = {"accuracy": float(correct.mean()), "threshold": threshold, "pairs": len(pairs)}
    return Cases(in_batches(whole, _BATCH), figures, f"{len(pairs)} pairs", left_out)


def _mosaic(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    found = data.classes(options.data, rng)
    gallery, labels, number = _gallery(network, found.gallery)
    by_class = {c: [p for p in found.queries if number[p.label] == c] for c in set(labels.tolist())}
    by_class = {c: pictures for c, pictures in by_class.items() if pictures}
    if len(by_class) < 4:
        raise ValueError(f"mosaic: four classes are needed, the data has {len(by_class)}")
    height, width = network.size
    # Cells as large as the network's pictures, if its embedding allows a picture four times that.
    large = network.takes((2 * height, 2 * width))
    h, w = (height, width) if large else (height // 2, width // 2)
    pixels, masks, references, others, swapped, names = [], [], [], [], [], []
    for n in range(options.cases):
        chosen = [sorted(by_class)[i] for i in rng.permutation(len(by_class))[:4]]
        cells = [by_class[c][rng.integers(len(by_class[c]))] for c in chosen]
        small = [np.asarray(Image.fromarray(np.squeeze(network.view(p.image))).resize((w, h)))
                 .reshape(h, w, -1) for p in cells]  # fmt: skip
        pixels.append(np.concatenate([np.concatenate(small[:2], 1), np.concatenate(small[2:], 1)]))
        right = int(rng.integers(4))
        mask = np.zeros((2 * h, 2 * w), bool)
        mask[h * (right // 2) :, w * (right % 2) :][:h, :w] = True
        masks.append(mask)
        pick = lambda c: rng.choice(np.flatnonzero(labels == c))  # noqa: E731
        reference = pick(chosen[right])
        references.append(gallery[reference])
        others.append(network.view(found.gallery[reference].image))
        swapped.append(gallery[pick(chosen[(right + 1) % 4])])
        names.append(f"mosaic {n}: {cells[right].label}")
    pixels = np.stack(pixels)
    whole = Batch(
        names, pixels, network.prepare(pixels), references=np.stack(references),
        swapped=np.stack(swapped), background=_some(gallery, rng), masks=np.stack(masks),
        others=network.prepare(np.stack(others)),
    )  # fmt: skip
    about = f"{len(names)} mosaics of 2 x 2 cells of {h} x {w} pixels, chance 0.25"
    _, _, z, truth, _ = _asked(network, found, number)
    nearest = np.argmax(_scores(network.similarity, z, gallery), axis=1)
    figures = {"recall@1 of whole pictures": float(np.mean(labels[nearest] == truth))}
    return Cases(in_batches(whole, _BATCH), figures, about, found.left_out)


def _localization(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    with data.opened(Path(options.data)) as root:
        found, left_out = annotated(root)
    found = [found[i] for i in sorted(rng.permutation(len(found))[: options.cases])]
    pixels = views(network, found)
    objects = network.prepare(np.stack([network.view(p.image.crop(box_of(p.mask))) for p in found]))
    z = np.asarray(normalize(network.embed(objects)))
    labels = np.array([picture.label for picture in found])
    alike = (labels[:, None] == labels) & ~np.eye(len(found), dtype=bool)
    alone = ~alike.any(1)
    alike[alone] = np.eye(len(found), dtype=bool)[alone]
    references = (alike @ z) / alike.sum(1, keepdims=True)
    strips = [(p, beside(p.mask)) for p in found]
    around = [network.view(p.image.crop(strip)) for p, strip in strips if strip]
    if not around:
        raise ValueError("localization: the objects fill their pictures; no place beside them")
    background = network.embed(network.prepare(np.stack(around)))
    masks = np.stack([_seen(network, picture.mask) for picture in found])
    some = masks.any((1, 2)) & ~masks.all((1, 2))
    left_out += [f"{p.name}: the crop shows the object everywhere or nowhere"
                 for p, ok in zip(found, some, strict=True) if not ok]  # fmt: skip
    if not some.any():
        raise ValueError("localization: the network's crop shows no object's edge in any picture")
    whole = Batch(
        [picture.name for picture in found], pixels, network.prepare(pixels),
        references=references.astype(np.float32),
        swapped=background[rng.integers(len(background), size=len(found))],
        background=background, masks=masks,
    )  # fmt: skip
    whole = whole.take(np.flatnonzero(some))
    figures = {"pictures": len(whole), "object's share of the picture": float(masks[some].mean())}
    about = "each picture with the mean of the other pictures' objects"
    if alone.any():
        left_out.append(
            f"{int(alone.sum())} pictures have no other of their kind, and their own object for a "
            "reference"
        )
    return Cases(in_batches(whole, _BATCH), figures, about, left_out)


_BUILDERS = {
    "fewshot": _fewshot,
    "contrastive": _contrastive,
    "retrieval": _retrieval,
    "verification": _verification,
    "mosaic": _mosaic,
    "localization": _localization,
    "sanity": _retrieval,
}


def _scores(similarity: fam_jax.Similarity, z: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Every score, [q, r], a query's at a time."""
    return np.stack([np.asarray(similarity.score(np.broadcast_to(one, r.shape), r)) for one in z])


def _gallery(
    network: Network, pictures: Sequence[data.Picture]
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    number = {label: i for i, label in enumerate(sorted({p.label for p in pictures}))}
    embeddings = network.embed(network.prepare(views(network, pictures)))
    return embeddings, np.array([number[p.label] for p in pictures]), number


def _asked(network: Network, found: data.Classes, number: dict[str, int]):
    pixels = views(network, found.queries)
    images = network.prepare(pixels)
    truth = np.array([number[picture.label] for picture in found.queries])
    names = [picture.name for picture in found.queries]
    return pixels, images, network.embed(images), truth, names


def _of_other_classes(labels: np.ndarray, not_these: np.ndarray, rng: np.random.Generator):
    """For each query a random member of the gallery of another class than its own."""
    return np.array([rng.choice(np.flatnonzero(labels != c)) for c in not_these])


def _some(embeddings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return embeddings[rng.permutation(len(embeddings))[:_MOST]]


def _drawn(whole: Batch, figures, options: Options, rng, about: str, left_out) -> Cases:
    """At most `options.cases` of the queries, drawn by `rng`."""
    chosen = whole.take(np.sort(rng.permutation(len(whole))[: options.cases]))
    return Cases(in_batches(chosen, _BATCH), figures, about, left_out)


def _seen(network: Network, mask: np.ndarray) -> np.ndarray:
    """A picture's mask as the network sees the picture."""
    height, width = network.size
    box = network.backbone.preprocess.region(mask.shape[::-1])
    grey = Image.fromarray(np.uint8(mask) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR, box=box)) > 127
