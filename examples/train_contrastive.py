"""Train the embedded network `tiny` from nothing, and measure how well its maps point.

    pip install ".[demo,train]"
    python examples/train_contrastive.py --out tiny.safetensors --maps maps

Minutes on two processor cores. Every step sees random crops of every photograph, and the loss
(NT-Xent, as in SimCLR) asks that crops of one photograph be more alike than crops of two. Two
choices make for good maps. The embedding is the plain mean of non-negative features, with no
projection after it. The temperature is high: as the cosines of such embeddings lie in [0, 1], a
low loss then takes cosines near 0 between photographs, so channels silent for most of them. A
second term draws the embeddings' lengths towards 1, so that no crop is silent in all channels.

Half of every photograph is held out (`fam_jax.io.photographs`) to measure
    retrieval     a crop of one held-out quarter looks for its photograph among crops of the other;
    mosaic game   four held-out crops in one image, and a reference crop for one of them from the
                  photograph's other held-out quarter: does the map lie in the right cell?
Training sees no mosaic. With `--maps`, four of them are explained every so many steps, into raw
maps, a strip of pictures (strip.png) and TensorBoard.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import crops
import fam_jax
from fam_jax.evaluate import mosaic_game
from fam_jax.io import photographs
from fam_jax.training import MapLogger
from pretrained_ports.models.tiny import Tiny
from training import descend, embed, save

VIEWS = 6  # crops of every photograph in a step
TEMPERATURE = 0.3
LENGTH = 0.1  # weight of the lengths in the loss
ABOUT = {
    "architecture": "tiny",
    "trained_by": "examples/train_contrastive.py",
    **crops.ABOUT,
}


def loss(embeddings, labels):
    """NT-Xent, -log softmax of the cosines averaged over all positives, and lengths drawn to 1."""
    z = fam_jax.normalize(embeddings)
    itself = jnp.eye(len(labels), dtype=bool)
    logits = jnp.where(itself, -jnp.inf, z @ z.T / TEMPERATURE)
    positive = (labels[:, None] == labels[None]) & ~itself
    nt_xent = -jnp.mean(jax.nn.log_softmax(logits), where=positive)
    log_length = jnp.log(jnp.sum(embeddings**2, axis=1) + 1e-6) / 2
    return nt_xent + LENGTH * jnp.mean(log_length**2)


def train(pixels, sizes, steps, seed, watch=None):
    """The trained network, in evaluation mode."""
    model = Tiny(rngs=nnx.Rngs(seed))

    def of_batch(model, _, key):
        pictures, labels = crops.random_crops(key, pixels, sizes, VIEWS)
        return loss(model(crops.normalised(pictures)), labels)

    descend(model, None, of_batch, steps, seed, watch=watch)
    return model


def mosaic_logger(folder, photos, every):
    """Maps of four mosaics against a crop of one of their photographs, through training."""
    games = photographs.mosaics(photos, np.random.default_rng(0), 4, crops.SIZE)
    images, references = map(crops.normalised, (games.images, games.references))
    return MapLogger(
        folder,
        images,
        references,
        at="layer3",
        every=every,
        method=fam_jax.decomposition(),
        pictures=(games.images, games.references),
    )


def pointing_scores(model, photos, background, seeds, count):
    """Method -> [2, seeds * count]: mass in the right cell, and whether the peak is in it."""
    encode = fam_jax.capture(model, at="layer3")
    players = mosaic_game.players(background)
    scores = {name: [] for name in players}
    for seed in range(seeds):
        games = photographs.mosaics(photos, np.random.default_rng(seed), count, crops.SIZE)
        images, references = map(crops.normalised, (games.images, games.references))
        for name, (_, mass, hits) in mosaic_game.play(
            encode, players, images, references, games.masks
        ).items():
            scores[name].append((mass, hits))
    return {name: np.concatenate(np.array(s, float), axis=1) for name, s in scores.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the weights here (.safetensors)")
    parser.add_argument("--maps", type=Path, help="write maps through training into this folder")
    parser.add_argument("--every", type=int, default=60, help="steps from one look to the next")
    parser.add_argument("--quick", action="store_true", help="three steps, to see that it runs")
    options = parser.parse_args()
    steps, each, seeds, count = (3, 2, 1, 8) if options.quick else (options.steps, 16, 5, 100)

    photos = photographs.load()
    pixels, sizes = crops.training_quarters(photos)
    try:
        watch = mosaic_logger(options.maps, photos, options.every) if options.maps else None
    except (OSError, ValueError) as error:
        parser.error(str(error))
    model = train(pixels, sizes, steps, options.seed, watch)
    background, _ = crops.random_crops(jax.random.key(options.seed), pixels, sizes, each=8)

    recall = crops.retrieval(model, photos, np.random.default_rng(0), each)
    figures = [f"Recall@1 {recall:.3f} (chance {1 / len(photos):.3f})"]
    scores = pointing_scores(
        model, photos, embed(model, crops.normalised(background)), seeds, count
    )
    for name, (mass, hit) in scores.items():
        figures.append(f"{name}: mass {mass.mean():.3f}, pointing {hit.mean():.3f} (chance 0.25)")
    print("\n".join(figures))
    if options.out:
        record = {"steps": str(steps), "seed": str(options.seed), "figures": "; ".join(figures)}
        check = photographs.training_crops(photos, crops.SIZE)
        print(save(options.out, model, ABOUT | record, check))


if __name__ == "__main__":
    main()
