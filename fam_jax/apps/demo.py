"""`fam-jax demo`: three figures and a table on real photographs, without a network."""

from pathlib import Path

import jax
import numpy as np

import fam_jax
from fam_jax.apps import network, options
from fam_jax.apps.output import Output
from fam_jax.io import files, photographs

SIZE = 64  # pixels of a crop, as `tiny` was trained
GAMES, BATCH = 100, 20
SHOWN = 3  # mosaics in the figure
SHOW = 192  # pixels of a crop in the figures
NEAREST, ASKED = 5, "coffee"


def demo(
    output: options.Output = "fam-jax-demo",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Show what it does on real photographs, without a network: pairs, mosaics, retrieval."""
    from rich.table import Column, Table

    from fam_jax.evaluate import mosaic_game

    talk, folder = Output(quiet, as_json), Path(output)
    with files.folder(folder, overwrite=overwrite) as stage:
        photos = photographs.load()
        net = network.open_network("tiny")
        encode, prepare = net.encode, net.preprocess.normalise  # crops keep their own size

        _pair(encode, prepare, photos).savefig(stage / "pair.png")
        background = encode(prepare(photographs.training_crops(photos, SIZE))).embeddings
        scores, figure = _mosaics(encode, prepare, photos, mosaic_game.players(background), talk)
        figure.savefig(stage / "mosaics.png")
        _retrieval(encode, prepare, photos, background).savefig(stage / "retrieval.png")
        facts = net.facts()
        del facts["image_size"]
        written = files.write_manifest(
            stage,
            command="demo",
            **facts,
            photographs=[photo.name for photo in photos],
            mosaics={"count": GAMES, "chance": 0.25, "scores": scores},
        )
    right = (Column(name, justify="right") for name in ("mass in the right cell", "pointing"))
    table = Table("method", *right, title=f"Mean over {GAMES} mosaics (chance 0.25)")
    for name, score in scores.items():
        table.add_row(name, f"{score['mass']:.2f}", f"{score['pointing']:.2f}")
    talk.show(table)
    listed = [str(folder / name) for name in written]
    talk.say(*listed)
    talk.result(mosaics=GAMES, chance=0.25, scores=scores, files=listed)


def _pair(encode, prepare, photos):
    """Two overlapping crops of one photograph."""
    cat = next(photo for photo in photos if photo.name == "chelsea").image
    height, width, _ = cat.shape
    side, end = height * 3 // 4, width - width // 8
    crops = cat[:side, :side], cat[height - side :, end - side : end]
    small = [prepare(photographs.resize(crop, 2 * SIZE)[None]) for crop in crops]
    out = fam_jax.explain_pairs(encode, *small)
    return fam_jax.plot.pair_figure(
        *crops,
        out.query_maps[0],
        out.reference_maps[0],
        score=float(out.scores[0]),
        title="Two overlapping crops of one photograph: fam, cosine",
        names=("query", "reference"),
    )


def _mosaics(encode, prepare, photos, players, talk):
    """Mean scores over `GAMES` mosaics, and a figure of the first few."""
    from rich.progress import track

    from fam_jax.evaluate import mosaic_game

    games = photographs.mosaics(photos, np.random.default_rng(0), GAMES, SIZE)
    parts = []
    for i in track(range(0, GAMES, BATCH), "mosaics", console=talk.progress(), transient=True):
        rows = slice(i, i + BATCH)
        images, references = prepare(games.images[rows]), prepare(games.references[rows])
        parts.append(mosaic_game.play(encode, players, images, references, games.masks[rows]))
    results = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    results = {name: results[name] for name in players}  # jax sorts the keys of dictionaries
    scores = {
        name: {"mass": float(mass.mean()), "pointing": float(hits.mean())}
        for name, (_, mass, hits) in results.items()
    }
    large = photographs.mosaics(photos, np.random.default_rng(0), GAMES, SHOW)  # the same crops
    _, first = np.unique(games.targets, return_index=True)
    rows, captions = [], []
    for n in np.sort(first)[:SHOWN]:
        overlays = [_overlay(large.images[n], maps[n]) for maps, _, _ in results.values()]
        rows.append([large.references[n], large.images[n], *overlays])
        masses = [f"{name}\n{mass[n]:.0%}" for name, (_, mass, _) in results.items()]
        captions.append(["reference", "mosaic", *masses])
    title = "Where in the mosaic is the reference? Share of each map in the right cell (chance 25%)"
    return scores, fam_jax.plot.grid_figure(rows, captions=captions, title=title, cell=1.7)


def _retrieval(encode, prepare, photos, background):
    """A held-out crop, its nearest five among the other held-out crops, and why: both sides."""
    of = np.repeat([photo.name for photo in photos], 8)
    (query, bank), (large, large_bank) = (_gallery(photos, size) for size in (SIZE, SHOW))
    gallery = encode(prepare(bank)).embeddings
    near = fam_jax.neighbours(encode(prepare(query)).embeddings, gallery, k=NEAREST)
    nearest = np.asarray(near.indices[0])
    method = fam_jax.fam(fam_jax.margin(fam_jax.cosine, background), normalize="none")
    queries = np.repeat(prepare(query), NEAREST, axis=0)
    out = fam_jax.explain_pairs(encode, queries, prepare(bank[nearest]), method)
    names = [f"{of[i]}  {s:.3f}" for i, s in zip(nearest, near.similarities[0], strict=True)]
    hits = large_bank[nearest]
    return fam_jax.plot.grid_figure(
        [
            [large[0], *hits],
            [None, *(_overlay(large[0], heat) for heat in out.query_maps)],
            [None, *map(_overlay, hits, out.reference_maps)],
        ],
        captions=[
            ["query", *names],
            ["", *["on the query"] * NEAREST],
            ["", *["on the neighbour"] * NEAREST],
        ],
        title="A held-out crop, its nearest five, and what makes them more alike than the rest",
        cell=1.7,
    )


def _overlay(picture, heat):
    """Of a map its positive part."""
    return fam_jax.plot.overlay(picture, np.maximum(heat, 0))


def _gallery(photos, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A query from one held-out quarter, and eight crops of every photograph's other one."""
    rng = np.random.default_rng(1)
    bank = np.stack([photographs.draw(p, rng, 1, size) for p in photos for _ in range(8)])
    asked = next(photo for photo in photos if photo.name == ASKED)
    return photographs.draw(asked, rng, 0, size)[None], bank
