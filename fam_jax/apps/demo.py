"""`fam-jax demo`: figures, raw maps and numbers on real photographs.

EfficientNet-Lite0 never saw them; `tiny`, which stands in where its weights are not installed, was
trained on other parts of them.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import fam_jax
from fam_jax._core.brief import legible
from fam_jax.apps import choice, network, options
from fam_jax.apps.output import Output
from fam_jax.io import files, photographs

QUERY, REFERENCES = "astronaut", ("rocket", "coffee")
ASKED, QUARTER, NEAREST = "rocket", 1, 3
GAMES, BATCH = 100, 10
TINY = 64  # pixels of what `tiny` was trained on
SHOWN = 3  # mosaics in the figure
_CELLS = ("upper left", "upper right", "lower left", "lower right")


class Figures(NamedTuple):
    """Writes figures, and keeps the maps in them."""

    stage: Path
    maps: dict[str, np.ndarray]

    def write(self, name: str, rows: list, captions: list, title: str, **maps: Any) -> None:
        """One figure, with its maps [n, h, w] by what they show."""
        figure = fam_jax.plot.grid_figure(
            rows, captions=captions, title=title, colorbar=True, cell=2.0
        )
        figure.savefig(self.stage / f"{name}.png")
        self.maps.update({f"{name}_{of}": np.asarray(m) for of, m in maps.items()})


def demo(
    output: options.Output = "fam-jax-demo",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Show what it does on real photographs: pairs, mosaics with numbers, retrieval, a failure."""
    from rich.table import Column, Table

    talk, folder = Output(quiet, as_json), Path(output)
    with files.folder(folder, overwrite=overwrite) as stage:
        model, _, lines = choice.choose_model(None)
        talk.say(*lines)
        net = network.open_network(model, image_size=TINY if model == "tiny" else None)
        figures, size = Figures(stage, {}), net.preprocess.size[0]
        photos = photographs.load(2 * size)
        _pairs(net, photos, size, figures)
        _retrieval(net, photos, size, figures)
        scores = _mosaics(net, photos, size, figures, talk)
        files.save_arrays(stage / "maps.npz", figures.maps)
        written = files.write_manifest(
            stage,
            command="demo",
            **net.facts(),
            photographs=[photo.name for photo in photos],
            mosaics={"count": GAMES, "chance": 0.25, "scores": scores},
        )
    right = (Column(name, justify="right") for name in ("mass in the right cell", "pointing"))
    table = Table("method", *right, title=f"Mean over {GAMES} mosaics (chance 0.25)")
    for name, score in scores.items():
        table.add_row(name, f"{score['mass']:.2f}", f"{score['pointing']:.2f}")
    talk.show(table)
    listed = [str(folder / name) for name in written]
    talk.say(*map(legible, listed))
    talk.result(model=model, notes=lines, mosaics=GAMES, chance=0.25, scores=scores, files=listed)


def _pairs(net: network.Network, photos: list, size: int, figures: Figures) -> None:
    """One photograph with two others: the map follows the other one."""
    squares = {photo.name: photographs.resize(_square(photo.image), size) for photo in photos}
    inputs = {name: net.preprocess.normalise(pixels) for name, pixels in squares.items()}
    others = [inputs[name] for name in inputs if name not in (QUERY, *REFERENCES)]
    background = net.encode(np.stack(others)).embeddings
    queries = np.stack([inputs[QUERY]] * len(REFERENCES))
    references = np.stack([inputs[name] for name in REFERENCES])
    out = fam_jax.explain_pairs(net.encode, queries, references, fam_jax.contrastive(background))
    pictures = [squares[name] for name in REFERENCES]
    figures.write(
        "pairs",
        [
            [squares[QUERY], *pictures],
            [None, *(_overlay(squares[QUERY], heat) for heat in out.query_maps)],
            [None, *map(_overlay, pictures, out.reference_maps)],
        ],
        [["this photograph", "and this one", "and this one"], ["", *["are alike here"] * 2], []],
        "",
        query_maps=out.query_maps,
        reference_maps=out.reference_maps,
    )


def _retrieval(net: network.Network, photos: list, size: int, figures: Figures) -> None:
    """A crop and its nearest among crops of all photographs, before and after the background."""
    prepare = net.preprocess.normalise
    asked = next(photo for photo in photos if photo.name == ASKED)
    query = photographs.draw(asked, np.random.default_rng(1), QUARTER, size)
    crops = photographs.training_crops(photos, size)
    of = np.repeat([photo.name for photo in photos], 2)
    gallery = net.encode(prepare(crops)).embeddings
    near = fam_jax.neighbours(net.encode(prepare(query[None])).embeddings, gallery, k=NEAREST)
    nearest = np.asarray(near.indices[0])
    queries, hits = prepare(np.stack([query] * NEAREST)), crops[nearest]
    methods = {"fam": fam_jax.fam(), "contrastive": fam_jax.contrastive(gallery)}
    captions = [
        f"{of[i]} {s:.3f}{'' if of[i] == ASKED else ' (wrong)'}"
        for i, s in zip(nearest, near.similarities[0], strict=True)
    ]
    rows, lines, maps = [[query, *hits]], [[f"query: {ASKED}", *captions]], {}
    for name, method in methods.items():
        out = fam_jax.explain_pairs(net.encode, queries, prepare(hits), method)
        rows.append([None, *(_overlay(query, heat) for heat in out.query_maps)])
        rows.append([None, *map(_overlay, hits, out.reference_maps)])
        lines += [["", *[f"{name}: query"] * NEAREST], ["", *[f"{name}: neighbour"] * NEAREST]]
        maps |= {f"{name}_query_maps": out.query_maps}
        maps |= {f"{name}_reference_maps": out.reference_maps}
    figures.write("retrieval", rows, lines, "The nearest crops, and why", **maps)


def _mosaics(
    net: network.Network, photos: list, size: int, figures: Figures, talk: Output
) -> dict[str, dict[str, float]]:
    """Mean scores over `GAMES` mosaics; a figure of the first few, and one of a failure."""
    from rich.progress import track

    from fam_jax.evaluate import mosaic_game

    prepare = net.preprocess.normalise
    background = net.encode(prepare(photographs.training_crops(photos, size))).embeddings
    players = mosaic_game.players(background)
    games = photographs.mosaics(photos, np.random.default_rng(0), GAMES, size)
    parts = []
    for i in track(range(0, GAMES, BATCH), "mosaics", console=talk.progress(), transient=True):
        rows = slice(i, i + BATCH)
        images, references = prepare(games.images[rows]), prepare(games.references[rows])
        part = mosaic_game.play(net.encode, players, images, references, games.masks[rows])
        parts.append(jax.device_get(part))
    results = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    results = {name: results[name] for name in players}  # jax sorts the keys of dictionaries

    def row(n, names) -> tuple[list, list]:
        overlays = [_overlay(games.images[n], results[name][0][n]) for name in names]
        shares = [f"{name}\n{results[name][1][n]:.0%}" for name in names]
        return [games.references[n], games.images[n], *overlays], ["reference", "mosaic", *shares]

    _, first = np.unique(games.targets, return_index=True)
    pictures, captions = zip(*(row(n, players) for n in np.sort(first)[:SHOWN]), strict=True)
    title = "Where in the mosaic is the reference? Share of each map in the right cell (chance 25%)"
    maps = {name.replace("-", "_"): maps for name, (maps, _, _) in results.items()}
    figures.write("mosaics", list(pictures), list(captions), title, **maps)
    worst = int(results["contrastive"][1].argmin())
    pictures, captions = row(worst, ["fam", "contrastive"])
    right = _CELLS[games.cells[worst].tolist().index(games.targets[worst])]
    kind = "A failure" if results["contrastive"][1][worst] < 0.5 else "The least right"
    title = f"{kind}: the reference is of the photograph in the {right} cell"
    figures.write("failure", [pictures], [captions], title)
    return {
        name: {"mass": float(mass.mean()), "pointing": float(hits.mean())}
        for name, (_, mass, hits) in results.items()
    }


def _square(image: np.ndarray) -> np.ndarray:
    """Its middle."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _overlay(picture, heat):
    """Of a map its positive part."""
    return fam_jax.plot.overlay(picture, np.maximum(heat, 0))
