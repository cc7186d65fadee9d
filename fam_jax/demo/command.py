"""`fam-jax demo`: three figures and a table on real photographs, without a network."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

import fam_jax
from fam_jax import output, plot
from fam_jax.demo import mosaic_game, photographs
from fam_jax.similarity import normalize

SIZE = 64  # pixels of a crop, as `tiny` was trained
GAMES, BATCH = 100, 20
SHOWN = 3  # mosaics in the figure
NEAREST = 5


def run(folder: Path, *, overwrite: bool, say: Callable[[str], None]) -> None:
    """Write the figures, the scores and a manifest into `folder`."""
    import pretrained_ports

    with output.folder(folder, overwrite=overwrite) as stage:
        photos = photographs.load()
        backbone = pretrained_ports.load("tiny")
        encode = fam_jax.capture(backbone.model, at=backbone.layer)
        prepare = _preparation(backbone.preprocess)

        _pair(encode, prepare, photos).savefig(stage / "pair.png")
        background = encode(prepare(_training_crops(photos))).embeddings
        scores, figure = _mosaics(encode, prepare, photos, mosaic_game.rules(background))
        figure.savefig(stage / "mosaics.png")
        _retrieval(encode, prepare, photos, background).savefig(stage / "retrieval.png")
        files = output.write_manifest(
            stage,
            command="demo",
            model=backbone.name,
            weights={"source": backbone.source, **output.file_facts(backbone.report.source)},
            layer=backbone.layer,
            photographs=[photo.name for photo in photos],
            mosaics={"count": GAMES, "chance": 0.25, "scores": scores},
        )
    Console().print(_table(scores))
    say("\n".join(str(folder / name) for name in files))


def _preparation(preprocess) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 crops -> network input at their own size: the model's scaling without its resizing."""
    mean, std = (np.asarray(x, np.float32).reshape(1, 1, 1, 3) for x in (preprocess.mean, preprocess.std))
    return lambda crops: (crops.astype(np.float32) / 255 - mean) / std


def _pair(encode, prepare, photos):
    """Two overlapping crops of one photograph."""
    cat = next(photo for photo in photos if photo.name == "chelsea").image
    height, width, _ = cat.shape
    side = height * 3 // 4
    crops = [cat[:side, :side], cat[height - side :, width - side - width // 8 : width - width // 8]]
    small = [_resize(crop, 2 * SIZE)[None] for crop in crops]
    out = fam_jax.explain_pairs(encode, prepare(small[0]), prepare(small[1]))
    return plot.pair_figure(
        *crops, out.query_maps[0], out.reference_maps[0], score=float(out.scores[0]),
        title="Two overlapping crops of one photograph: fam, cosine",
        names=("query", "reference"),
    )  # fmt: skip


def _mosaics(encode, prepare, photos, rules):
    """Mean scores over `GAMES` mosaics, and a figure of the first few."""
    games = photographs.mosaics(photos, np.random.default_rng(0), GAMES, SIZE)
    parts = []
    for i in track(range(0, GAMES, BATCH), "mosaics", transient=True):
        cut = slice(i, i + BATCH)
        parts.append(
            mosaic_game.play(
                encode, rules, prepare(games.images[cut]), prepare(games.references[cut]),
                games.masks[cut],
            )  # fmt: skip
        )
    results = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    scores = {
        name: {"mass": float(mass.mean()), "pointing": float(hits.mean())}
        for name, (_, mass, hits) in results.items()
    }
    rows, captions = [], []
    for n in range(SHOWN):
        overlays = [plot.overlay(games.images[n], np.maximum(m[n], 0)) for m, _, _ in results.values()]
        rows.append([games.references[n], games.images[n], *overlays])
        masses = [f"{name}\n{mass[n]:.0%}" for name, (_, mass, _) in results.items()]
        captions.append(["reference", "mosaic", *masses])
    title = "Where in the mosaic is the reference? Share of each map in the right cell (chance 25%)"
    return scores, plot.grid_figure(rows, captions=captions, title=title, cell=1.7)


def _retrieval(encode, prepare, photos, background):
    """A held-out crop, its nearest five among the other held-out crops, and why: both sides."""
    rng = np.random.default_rng(1)
    bank = np.stack([photographs.draw(p, rng, 1, SIZE) for p in photos for _ in range(8)])
    of = np.repeat([photo.name for photo in photos], 8)
    flower = next(photo for photo in photos if photo.name == "flower")
    query = photographs.draw(flower, rng, 0, SIZE)
    gallery = encode(prepare(bank)).embeddings
    found = fam_jax.neighbours(encode(prepare(query[None])).embeddings, gallery, k=NEAREST)
    nearest = np.asarray(found.indices[0])
    method = fam_jax.fam(fam_jax.margin(fam_jax.cosine, background), normalize="none")
    queries = np.repeat(prepare(query[None]), NEAREST, axis=0)
    out = fam_jax.explain_pairs(encode, queries, prepare(bank[nearest]), method)
    positive = jax.tree.map(lambda maps: np.maximum(maps, 0), out)
    cosines = found.similarities[0]
    return plot.grid_figure(
        [
            [query, *bank[nearest]],
            [None, *map(plot.overlay, [query] * NEAREST, positive.query_maps)],
            [None, *map(plot.overlay, bank[nearest], positive.reference_maps)],
        ],
        captions=[
            ["query", *(f"{of[i]}  {s:.2f}" for i, s in zip(nearest, cosines, strict=True))],
            ["", *["on the query"] * NEAREST],
            ["", *["on the neighbour"] * NEAREST],
        ],
        title="A held-out crop, its nearest five, and what makes them more alike than the rest",
        cell=1.7,
    )


def _training_crops(photos) -> np.ndarray:
    """The middle of every training quarter: what the contrastive methods subtract."""
    crops = []
    for photo in photos:
        side = round(photographs.CROP * min(photo.image.shape[:2]))
        for box in photo.training:
            top, left = (box.top + box.bottom - side) // 2, (box.left + box.right - side) // 2
            crops.append(_resize(photo.image[top : top + side, left : left + side], SIZE))
    return np.stack(crops)


def _resize(crop: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))


def _table(scores: dict[str, dict[str, float]]) -> Table:
    table = Table(title=f"Mean over {GAMES} mosaics (chance 0.25)")
    for name in ("method", "mass in the right cell", "pointing"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for name, score in scores.items():
        table.add_row(name, f"{score['mass']:.2f}", f"{score['pointing']:.2f}")
    return table
