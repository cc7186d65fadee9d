"""`fam-jax demo`: three figures and a table on real photographs, without a network."""

from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

import fam_jax
from fam_jax.apps import network, options
from fam_jax.apps.errors import one_line_errors
from fam_jax.apps.output import Output
from fam_jax.io import files, photographs

if TYPE_CHECKING:
    from rich.table import Table

SIZE = 64  # pixels of a crop, as `tiny` was trained
GAMES, BATCH = 100, 20
SHOWN = 3  # mosaics in the figure
SHOW = 192  # pixels of a crop in the figures
NEAREST, ASKED = 5, "coffee"


@one_line_errors
def demo(
    output: options.Output = "fam-jax-demo",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Show what it does on real photographs, without a network: pairs, mosaics, retrieval."""
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
    talk.show(_table(scores))
    listed = [str(folder / name) for name in written]
    talk.say(*listed)
    talk.result(mosaics=GAMES, chance=0.25, scores=scores, files=listed)


def _pair(encode, prepare, photos):
    """Two overlapping crops of one photograph."""
    cat = next(photo for photo in photos if photo.name == "chelsea").image
    height, width, _ = cat.shape
    side = height * 3 // 4
    crops = (
        cat[:side, :side],
        cat[height - side :, width - side - width // 8 : width - width // 8],
    )
    small = [photographs.resize(crop, 2 * SIZE)[None] for crop in crops]
    out = fam_jax.explain_pairs(encode, prepare(small[0]), prepare(small[1]))
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
        images, references, masks = (
            x[i : i + BATCH] for x in (games.images, games.references, games.masks)
        )
        images, references = prepare(images), prepare(references)
        parts.append(mosaic_game.play(encode, players, images, references, masks))
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
        positive = [np.maximum(maps[n], 0) for maps, _, _ in results.values()]
        overlays = [fam_jax.plot.overlay(large.images[n], heat) for heat in positive]
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
    found = fam_jax.neighbours(encode(prepare(query)).embeddings, gallery, k=NEAREST)
    nearest = np.asarray(found.indices[0])
    method = fam_jax.fam(fam_jax.margin(fam_jax.cosine, background), normalize="none")
    queries = np.repeat(prepare(query), NEAREST, axis=0)
    out = fam_jax.explain_pairs(encode, queries, prepare(bank[nearest]), method)
    names = [f"{of[i]}  {s:.3f}" for i, s in zip(nearest, found.similarities[0], strict=True)]
    on_query = [fam_jax.plot.overlay(large[0], np.maximum(heat, 0)) for heat in out.query_maps]
    on_neighbour = [
        fam_jax.plot.overlay(large_bank[i], np.maximum(heat, 0))
        for i, heat in zip(nearest, out.reference_maps, strict=True)
    ]
    return fam_jax.plot.grid_figure(
        [[large[0], *large_bank[nearest]], [None, *on_query], [None, *on_neighbour]],
        captions=[
            ["query", *names],
            ["", *["on the query"] * NEAREST],
            ["", *["on the neighbour"] * NEAREST],
        ],
        title="A held-out crop, its nearest five, and what makes them more alike than the rest",
        cell=1.7,
    )


def _gallery(photos, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A query from one held-out quarter, and eight crops of every photograph's other one."""
    rng = np.random.default_rng(1)
    bank = np.stack([photographs.draw(p, rng, 1, size) for p in photos for _ in range(8)])
    asked = next(photo for photo in photos if photo.name == ASKED)
    return photographs.draw(asked, rng, 0, size)[None], bank


def _table(scores: dict[str, dict[str, float]]) -> "Table":
    from rich.table import Table

    table = Table(title=f"Mean over {GAMES} mosaics (chance 0.25)")
    for name in ("method", "mass in the right cell", "pointing"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for name, score in scores.items():
        table.add_row(name, f"{score['mass']:.2f}", f"{score['pointing']:.2f}")
    return table
