"""Play the mosaic game with any convolutional backbone: which method's maps point where?

    pip install ".[demo]"
    python examples/mosaic_game.py                                # the embedded `tiny`
    python examples/mosaic_game.py --model cifar-resnet56 --weights resnet56.th --cell 32

A 2x2 mosaic of crops of four photographs, and a reference crop of one of them: the share of each
map's positive mass that lies in the right cell, and how often its peak does (chance 0.25). The
last column says how much a map depends on the reference at all: the rank correlation between the
maps of one mosaic for two references that match two different cells (1: it does not).
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import fam_jax
import pretrained_ports
from fam_jax.evaluate import mosaic_game
from fam_jax.io import photographs


def rank_correlation(a, b):
    """Spearman's correlation of two stacks of maps, map by map."""
    ranks = [np.argsort(np.argsort(x.reshape(len(x), -1))).astype(float) for x in (a, b)]
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(*ranks, strict=True)])


def play(backbone, cell, count, seed):
    """Method -> mass, hits, swap correlation, each [count]."""
    encode = fam_jax.capture(backbone)
    prepare = backbone.preprocess.normalise
    photos = photographs.load()
    games = photographs.mosaics(photos, np.random.default_rng(seed), count, cell)
    players = mosaic_game.players(
        encode(prepare(photographs.training_crops(photos, cell))).embeddings
    )

    rng = np.random.default_rng(seed + 1)
    others = [rng.choice(c[c != t]) for c, t in zip(games.cells, games.targets, strict=True)]
    swapped = np.stack([photographs.draw(photos[i], rng, 0, cell) for i in others])

    results = {name: [] for name in players}
    for i in range(0, count, 20):
        part = slice(i, i + 20)
        images, masks = prepare(games.images[part]), games.masks[part]
        right = mosaic_game.play(encode, players, images, prepare(games.references[part]), masks)
        other = mosaic_game.play(encode, players, images, prepare(swapped[part]), masks)
        for name, (maps, mass, hits) in right.items():
            swap = rank_correlation(np.asarray(maps), np.asarray(other[name][0]))
            results[name].append((mass, hits, swap))
    return {name: np.concatenate(np.array(r, float), axis=1) for name, r in results.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cell", type=int, default=64, help="pixels of a cell's side")
    parser.add_argument("--count", type=int, default=200, help="mosaics")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few mosaics, to see that it runs")
    options = parser.parse_args()
    backbone = pretrained_ports.load(options.model, weights=options.weights)
    count = 20 if options.quick else options.count
    results = play(backbone, options.cell, count, options.seed)

    table = Table(title=f"{options.model}, {count} mosaics: mean (standard error)")
    for name in ("method", "mass", "pointing", "swap correlation"):
        table.add_column(name)
    for name, scores in results.items():
        cells = (f"{np.mean(s):.2f} ({np.std(s) / np.sqrt(count):.2f})" for s in scores)
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
