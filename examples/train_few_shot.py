"""Train a few-shot network on Omniglot from nothing, and measure its 20-way one-shot accuracy.

    pip install ".[train]"
    python examples/train_few_shot.py --data omniglot --out conv4.safetensors

Minutes on one processor core. The folder holds three files of github.com/brendenlake/omniglot
(folder `python`): images_background_small1.zip and images_background_small2.zip to train on, with
every character in four rotations, each a class; all_runs.zip for the accuracy. Its characters are
from other alphabets. A step is an episode of 20 characters, and the loss the softmax of the cosines
with one example of each (Vinyals et al., "Matching Networks for One Shot Learning", 2016, without
its context embeddings). The embedding is the mean over the 3 x 3 cells of the last map: there is a
map to look at, which the usual 28 x 28 pixels do not leave.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import pretrained_ports
from episodes import RUNS, draw, official_runs, omniglot
from fam_jax._core.similarity import normalize
from training import descend, embed, save

NETWORK = "conv4-omniglot-pooled"
WAYS, SHOTS = 20, 3  # classes in a step, and drawings of each: one to know it by, two to ask
SCALE = 16.0  # of the cosines in the softmax
ABOUT = {
    "architecture": NETWORK,
    "trained_on": "Omniglot, images_background_small1 and images_background_small2 (MIT), "
    "every character in four rotations",
    "purpose": "Shows how a similarity is explained; not the state of the art of anything.",
}


def matching(model, drawings, key):
    """Cross-entropy of the queries' softmax over one example of each class."""
    pictures = draw(key, drawings[...], WAYS, SHOTS, turns=4)
    z = normalize(model(pictures.reshape(-1, *pictures.shape[2:]))).reshape(WAYS, SHOTS, -1)
    queries = z[:, 1:].reshape(WAYS * (SHOTS - 1), -1)
    log_p = jax.nn.log_softmax(SCALE * queries @ z[:, 0].T)
    right = jnp.repeat(jnp.eye(WAYS, dtype=bool), SHOTS - 1, axis=0)
    return -jnp.mean(log_p, where=right)


def one_shot_accuracy(model, folder, preprocess, runs):
    """Share of the official runs' drawings whose nearest example is of their character."""
    hits = []
    for pair in official_runs(folder, preprocess, runs):
        queries, supports = (normalize(embed(model, x)) for x in pair)
        hits.append(jnp.argmax(queries @ supports.T, axis=1) == jnp.arange(len(queries)))
    return float(jnp.mean(jnp.concatenate(hits)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the three zip files")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the weights here (.safetensors)")
    parser.add_argument("--quick", action="store_true", help="two steps, to see that it runs")
    options = parser.parse_args()
    steps, runs = (2, 1) if options.quick else (options.steps, RUNS)

    backbone = pretrained_ports.create(NETWORK, options.seed)
    model, preprocess = backbone.model, backbone.preprocess
    model.train()
    drawings = nnx.Variable(jnp.asarray(omniglot(options.data, preprocess)))
    seconds = descend(model, drawings, matching, steps, options.seed)
    accuracy = one_shot_accuracy(model, options.data, preprocess, runs)
    figure = f"20-way one-shot accuracy {accuracy:.3f} in {runs} runs (chance 0.050)"
    print(figure)
    if options.out:
        about = {
            **ABOUT,
            "trained_by": "examples/train_few_shot.py",
            "steps": steps,
            "seed": options.seed,
            "processor_seconds": round(seconds),
            "figures": figure,
        }
        check = np.random.default_rng(0).integers(0, 256, (8, *preprocess.size, 1), np.uint8)
        print(save(options.out, model, about, check))


if __name__ == "__main__":
    main()
