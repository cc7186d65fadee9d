"""Tasks with a right place: mosaics of four pictures, and pictures with boxes or masks."""

from pathlib import Path

import numpy as np
from PIL import Image

from fam_jax._core.similarity import normalize
from fam_jax.evaluate import data
from fam_jax.evaluate.annotated import annotated, beside, box_of
from fam_jax.evaluate.cases import Batch, Cases, in_batches
from fam_jax.evaluate.drawing import BATCH, Options, gallery_of, queries_of, scores_of, some_of
from fam_jax.evaluate.network import Network, views


def mosaic(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    """Four pictures of different classes in one, and a picture of the class of one of them."""
    found = data.classes(options.data, rng)
    gallery, labels, number = gallery_of(network, found.gallery)
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
        small = [
            np.asarray(Image.fromarray(np.squeeze(network.view(p.image))).resize((w, h))).reshape(
                h, w, -1
            )
            for p in cells
        ]
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
        names,
        pixels,
        network.prepare(pixels),
        references=np.stack(references),
        swapped=np.stack(swapped),
        background=some_of(gallery, rng),
        masks=np.stack(masks),
        others=network.prepare(np.stack(others)),
    )
    about = f"{len(names)} mosaics of 2 x 2 cells of {h} x {w} pixels, chance 0.25"
    _, _, z, truth, _ = queries_of(network, found, number)
    nearest = np.argmax(scores_of(network.similarity, z, gallery), axis=1)
    figures = {"recall@1 of whole pictures": float(np.mean(labels[nearest] == truth))}
    return Cases(in_batches(whole, BATCH), figures, about, found.left_out)


def localization(network: Network, options: Options, rng: np.random.Generator) -> Cases:
    """Each picture with the mean of the other pictures' objects, against what is beside them."""
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
    some = np.array([mask.any() and not mask.all() for mask in masks])
    left_out += [
        f"{p.name}: the crop shows the object everywhere or nowhere"
        for p, ok in zip(found, some, strict=True)
        if not ok
    ]
    if not some.any():
        raise ValueError("localization: the network's crop shows no object's edge in any picture")
    whole = Batch(
        [picture.name for picture in found],
        pixels,
        network.prepare(pixels),
        references=references.astype(np.float32),
        swapped=background[rng.integers(len(background), size=len(found))],
        background=background,
        masks=masks,
    )
    whole = whole.take(np.flatnonzero(some))
    figures = {"pictures": len(whole), "object's share of the picture": float(masks[some].mean())}
    about = "each picture with the mean of the other pictures' objects"
    if alone.any():
        left_out.append(
            f"{int(alone.sum())} pictures have no other of their kind, and their own object for a "
            "reference"
        )
    return Cases(in_batches(whole, BATCH), figures, about, left_out)


def _seen(network: Network, mask: np.ndarray) -> np.ndarray:
    """A picture's mask as the network sees the picture."""
    height, width = network.size
    box = network.backbone.preprocess.region(mask.shape[::-1])
    grey = Image.fromarray(np.uint8(mask) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR, box=box)) > 127
