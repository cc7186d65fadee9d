"""Tasks with a right place: mosaics of four pictures, and pictures with boxes or masks."""

from pathlib import Path

import numpy as np
from PIL import Image

from fam_jax._core.brief import legible
from fam_jax._core.similarity import normalize
from fam_jax.evaluate import data
from fam_jax.evaluate.annotated import annotated, beside, box_of
from fam_jax.evaluate.cases import Batch, Cases
from fam_jax.evaluate.drawing import Embedded, Options, both_sides, scores_of, some_of
from fam_jax.evaluate.network import Network


def mosaic(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    """Four pictures of different classes in one, and a picture of the class of one of them."""
    queries, gallery, left_out = both_sides(network, options, rng)
    labels = np.unique(queries.labels)
    if len(labels) < 4:
        raise ValueError(f"mosaic: four classes are needed, the data has {len(labels)}")
    height, width = network.size
    # Cells as large as the network's pictures, if its embedding allows a picture four times that.
    large = network.takes((2 * height, 2 * width))
    h, w = (height, width) if large else (height // 2, width // 2)

    def one_of(side: Embedded, label: str) -> int:
        return int(rng.choice(np.flatnonzero(side.labels == label)))

    def cell(picture: int) -> np.ndarray:
        image = Image.fromarray(np.squeeze(queries.pixels[picture])).resize((w, h))
        return np.asarray(image).reshape(h, w, -1)

    pixels, rights, references, swapped, names = [], [], [], [], []
    for n in range(options.cases):
        four = rng.permutation(labels)[:4]
        pictures = [one_of(queries, label) for label in four]
        a, b, c, d = map(cell, pictures)
        pixels.append(np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)]))
        right = int(rng.integers(4))
        rights.append(right)
        references.append(one_of(gallery, four[right]))
        swapped.append(one_of(gallery, four[(right + 1) % 4]))
        names.append(f"mosaic {n}: {four[right]}")
    pixels, rights = np.stack(pixels), np.array(rights)
    masks = np.zeros((len(names), 2, h, 2, w), bool)
    masks[np.arange(len(names)), rights // 2, :, rights % 2] = True
    whole = Batch(
        names,
        pixels,
        network.prepare(pixels),
        references=gallery.embeddings[references],
        swapped=gallery.embeddings[swapped],
        background=gallery.embeddings[some_of(len(gallery.names), rng)],
        masks=masks.reshape(-1, 2 * h, 2 * w),
        others=gallery.images[references],
    )
    about = f"{len(names)} mosaics of 2 x 2 cells of {h} x {w} pixels, chance 0.25"
    nearest = np.argmax(scores_of(network, queries.embeddings, gallery.embeddings), axis=1)
    hits = gallery.labels[nearest] == queries.labels
    return Cases.of(whole, {"recall@1 of whole pictures": float(np.mean(hits))}, about, left_out)


def localization(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    """Each picture with the mean of the other pictures' objects, against what is beside them."""
    with data.opened(Path(options.data)) as root:
        pictures, left_out = annotated(root, options.reader)
    pictures = [pictures[i] for i in np.sort(some_of(len(pictures), rng, options.cases))]
    pixels = network.views(p.image for p in pictures)
    objects = network.views(p.image.crop(box_of(p.mask)) for p in pictures)
    z = np.asarray(normalize(network.embed(network.prepare(objects))))
    labels, itself = np.array([p.label for p in pictures]), np.eye(len(pictures), dtype=bool)
    alike = (labels[:, None] == labels) & ~itself
    alone = ~alike.any(1)
    alike[alone] = itself[alone]
    references = (alike @ z) / alike.sum(1, keepdims=True)
    strips = [(p.image, strip) for p in pictures if (strip := beside(p.mask))]
    if not strips:
        raise ValueError("localization: the objects fill their pictures; no place beside them")
    around = network.views(image.crop(strip) for image, strip in strips)
    background = network.embed(network.prepare(around))
    masks = np.stack([_resized(network, p.mask) for p in pictures])
    shown = masks.any((1, 2)) & ~masks.all((1, 2))
    left_out += [
        f"{legible(pictures[i].name)}: the crop shows the object everywhere or nowhere"
        for i in np.flatnonzero(~shown)
    ]
    if not shown.any():
        raise ValueError("localization: the network's crop shows no object's edge in any picture")
    whole = Batch(
        [p.name for p in pictures],
        pixels,
        network.prepare(pixels),
        references=references.astype(np.float32),
        swapped=background[rng.integers(len(background), size=len(pictures))],
        background=background,
        masks=masks,
    ).take(np.flatnonzero(shown))
    if alone.any():
        left_out.append(
            f"{int(alone.sum())} pictures have no other of their kind, and their own object for a "
            "reference"
        )
    share = {"object's share of the picture": float(masks[shown].mean())}
    about = "each picture with the mean of the other pictures' objects"
    return Cases.of(whole, {"pictures": len(whole), **share}, about, left_out)


def _resized(network: Network, mask: np.ndarray) -> np.ndarray:
    """A picture's mask as the network sees the picture."""
    height, width = network.size
    box = network.backbone.preprocess.region(mask.shape[::-1])
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR, box=box)) > 127
