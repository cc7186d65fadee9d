"""Train a prototypical network, watch its maps form, and stop and go on as if nothing had been.

    pip install ".[demo,train]"
    python examples/train_protonet.py --out run
    python examples/train_protonet.py --data omniglot --out omniglot-run --steps 400

Without `--data`: scikit-learn's digits, 0 to 4 to train on and 5 to 9 to measure with. With it:
Omniglot's small background sets and official runs, from three zip files (examples/episodes.py).

A step is an episode: one example of each class is its prototype, and the loss the softmax of the
other examples' squared distances to the prototypes (Snell, Swersky, Zemel: Prototypical Networks
for Few-shot Learning, 2017). The folder `--out` gets checkpoints, from which the same command goes
on and ends in the same weights, bit by bit; maps of a probe episode of classes that are not trained
on, through training in maps/strip.png; and weights.safetensors.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

import fam_jax
import pretrained_ports
from episodes import RUNS, digits, draw, official_runs, omniglot
from fam_jax.training import MapLogger
from training import embed, interval, save

# Name in pretrained_ports, pixels (ResNet-12 is slow on a processor), a layer of 6 x 6 or 4 x 4.
NETWORKS = {
    "conv4": ("conv4-omniglot-pooled", 48, "block3"),
    "resnet12": ("resnet12", 32, "layer3"),
}


def squared_distances(z):
    """Of embeddings [ways each d] to the first of each class: [ways, each - 1, ways]."""
    return jnp.sum((z[:, 1:, None] - z[:, 0]) ** 2, axis=-1)


def embedded(model, pictures):
    """Embeddings [ways each d] of an episode."""
    return model(pictures.reshape(-1, *pictures.shape[2:])).reshape(*pictures.shape[:2], -1)


def loss(model, pictures):
    """Cross-entropy of the episode's queries."""
    log_p = jax.nn.log_softmax(-squared_distances(embedded(model, pictures)))
    right = jnp.eye(len(log_p), dtype=bool)[:, None]
    return -jnp.mean(log_p, where=jnp.broadcast_to(right, log_p.shape))


@nnx.jit(static_argnames=("ways", "each", "turns"))
def descend(model, optimizer, pictures, key, ways, each, turns):
    """One update by an episode."""
    value, gradient = nnx.value_and_grad(loss)(model, draw(key, pictures, ways, each, turns))
    optimizer.update(model, gradient)
    return value


@nnx.jit(static_argnames=("ways", "episodes"))
def accuracies(model, pictures, key, ways, episodes):
    """The share of right answers in each of many one-shot episodes of 5 queries a class."""

    def one(key):
        distances = squared_distances(embedded(model, draw(key, pictures, ways, 6)))
        return jnp.mean(jnp.argmin(distances, axis=2) == jnp.arange(ways)[:, None])

    return jax.lax.map(one, jax.random.split(key, episodes))


def official(model, folder, preprocess, runs):
    """The accuracy in each of Omniglot's own episodes: 20 classes, one example, one query."""
    pairs = official_runs(folder, preprocess, runs)
    z = [
        jnp.stack([embed(model, supports), embed(model, queries)], 1) for queries, supports in pairs
    ]
    return np.array([np.mean(np.argmin(squared_distances(x)[:, 0], 1) == np.arange(20)) for x in z])


def train(model, pictures, episode, logger, options):
    """Descend from the last checkpoint on, logging maps."""
    rate = optax.warmup_cosine_decay_schedule(0, 3e-3, options.steps // 10, options.steps)
    optimizer = nnx.Optimizer(model, optax.adamw(rate, weight_decay=1e-4), wrt=nnx.Param)
    state = lambda: {"model": nnx.state(model), "optimizer": nnx.state(optimizer)}  # noqa: E731
    with logger, ocp.CheckpointManager((options.out / "checkpoints").absolute()) as checkpoints:
        start = checkpoints.latest_step() or 0
        if start:
            print(f"going on after step {start}")
            checkpoint = checkpoints.restore(start, args=ocp.args.StandardRestore(state()))
            nnx.update(model, checkpoint["model"])
            nnx.update(optimizer, checkpoint["optimizer"])
        for step in range(start, options.steps):
            logger(step, model)
            key = jax.random.fold_in(jax.random.key(options.seed), step)
            value = descend(model, optimizer, pictures, key, *episode)
            if (step + 1) % options.every == 0:
                print(f"step {step + 1:4d}  loss {value:.3f}", flush=True)
                checkpoints.save(step + 1, args=ocp.args.StandardSave(state()))
        logger.log(options.steps, model)
    model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default="conv4")
    parser.add_argument("--data", type=Path, help="folder with Omniglot's three zip files")
    parser.add_argument("--against", type=Path, help="an Omniglot Conv-4's file, to compare with")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--every", type=int, default=30, help="steps between looks and checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="four steps, to see that it runs")
    options = parser.parse_args()
    if options.against and not options.data:
        parser.error("--against compares on Omniglot; give its folder with --data")
    if options.quick:
        options.steps, options.every = 4, 2

    name, pixels, at = NETWORKS[options.network]
    backbone = pretrained_ports.create(name, options.seed)
    preprocess = replace(backbone.preprocess, size=(pixels, pixels), resize=None)
    try:
        if options.against:
            theirs = pretrained_ports.load("conv4-omniglot", weights=options.against)
        if options.data:
            pictures, episode = omniglot(options.data, preprocess), (20, 3, 4)
            queries, supports = next(official_runs(options.data, preprocess))
        else:
            every = digits(preprocess)
            pictures, others, episode = every[:5], every[5:], (5, 2 if options.quick else 6, 1)
            supports, queries = others[:, 0], others[:, 1]
        logger = MapLogger(
            options.out / "maps",
            queries[:5],
            supports[:5],
            at=at,
            every=options.every,
            method=fam_jax.decomposition(),
            resume=True,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    backbone.model.train()
    train(backbone.model, jnp.asarray(pictures), episode, logger, options)

    if options.data:
        runs = 2 if options.quick else RUNS
        rates = official(backbone.model, options.data, preprocess, runs)
        figures = [f"official 20-way one-shot runs: {interval(rates)}"]
        if options.against:
            rates = official(theirs.model, options.data, theirs.preprocess, runs)
            figures.append(f"the same with {options.against.name}: {interval(rates)}")
    else:
        episodes = 3 if options.quick else 500
        rates = accuracies(backbone.model, jnp.asarray(others), jax.random.key(1), 5, episodes)
        figures = [f"5-way one-shot accuracy on digits 5 to 9: {interval(rates)}"]
    print("\n".join(figures))
    about = {
        "architecture": name,
        "trained_by": "examples/train_protonet.py",
        "figures": figures[0],
    }
    check = np.random.default_rng(0).integers(0, 256, (4, pixels, pixels, preprocess.channels))
    print(save(options.out / "weights.safetensors", backbone.model, about, check.astype(np.uint8)))


if __name__ == "__main__":
    main()
