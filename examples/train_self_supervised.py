"""Train a small network with a signed projection head, by MoCo, BYOL or SimCLR, from nothing.

    pip install ".[demo,train]"
    python examples/train_self_supervised.py --method moco --out moco.safetensors
    python examples/train_self_supervised.py --method simclr --network vit-mini-patch8

Minutes on one processor core. Random crops of one photograph are to be alike:
    moco     InfoNCE: a momentum encoder's crops of the photograph against a queue of its older ones
             (He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", 2020);
    byol     the cosine of what a predictor makes of one with the momentum encoder's others, without
             negatives (Grill et al., "Bootstrap Your Own Latent", 2020);
    simclr   NT-Xent within the batch (Chen et al., "A Simple Framework for Contrastive Learning of
             Visual Representations", 2020).
There are few photographs and many crops of each in a step: every two of one photograph are a
positive pair, and no crop of it is a negative.
The embedding that the loss compares is the output of a projection head, so it has both signs:
`pretrained_ports.load(NAME, weights=FILE, head="keep")` gives it, `head="drop"` what enters the
head. Half of every photograph is held out to measure Recall@1, as in `train_contrastive.py`.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import crops
import pretrained_ports
from fam_jax._core.similarity import normalize
from fam_jax.io import photographs
from pretrained_ports.models.layers import Stage
from pretrained_ports.models.projection import ProjectionHead
from training import descend, save

CHANNELS = 64  # of the embedding
HIDDEN = 128  # inside the head, and BYOL's predictor
QUEUE = 16  # batches
MOMENTUM = 0.97  # of a short training; the papers' 0.99 and more are for long ones
TEMPERATURE = 0.2
RATE = {"tiny": 4e-3, "vit-mini-patch8": 1e-3}


def projection(inputs, *, centred=False, rngs):
    """Linear layer, batch norm, ReLU, linear layer without bias: nothing makes the signs alike.

    `centred` ends in a batch norm without scale: what keeps BYOL from giving all crops one vector.
    """
    norm = {f"1.{leaf}": (HIDDEN,) for leaf in ("scale", "bias", "mean", "var")}
    last = {f"4.{leaf}": (CHANNELS,) for leaf in ("mean", "var")} if centred else {}
    layers = {"0.kernel": (inputs, HIDDEN), **norm, "3.kernel": (HIDDEN, CHANNELS), **last}
    return ProjectionHead(layers, rngs=rngs)


class Online(nnx.Module):
    """What is trained: the network, and BYOL's predictor (an empty stage otherwise)."""

    def __init__(self, network, seed, method):
        rngs = nnx.Rngs(seed)
        backbone = pretrained_ports.create(network, seed)
        self.network = backbone.model
        alone = method == "byol"  # without negatives
        self.network.head = projection(backbone.embedding_dim, centred=alone, rngs=rngs)
        self.predictor = projection(CHANNELS, rngs=rngs) if alone else Stage()
        self.train()


class Momentum(nnx.Module):
    """What follows it: a slow copy of the network, and MoCo's queue of its embeddings.

    MoCo's copy normalises by its running statistics: the batch's own would give away which crops
    belong together. BYOL's normalises by the batch.
    """

    def __init__(self, online, batch, method):
        self.slow = nnx.clone(online.network)
        if method == "moco":
            self.slow.eval()
        queue = jax.random.normal(jax.random.key(0), (QUEUE * batch, CHANNELS))
        self.queue = nnx.Variable(normalize(queue))
        self.labels = nnx.Variable(jnp.full(QUEUE * batch, -1, jnp.int32))

    def follow(self, network):
        """MOMENTUM of the copy, the rest of the network."""
        kinds = (nnx.Param, nnx.BatchStat)
        slow, fast = nnx.state(self.slow, kinds), nnx.state(network, kinds)
        mean = lambda s, f: MOMENTUM * s + (1 - MOMENTUM) * jax.lax.stop_gradient(f)  # noqa: E731
        nnx.update(self.slow, jax.tree.map(mean, slow, fast))

    def push(self, keys, labels):
        """The newest batch into the queue, the oldest out."""
        self.queue[...] = jnp.concatenate([keys, self.queue[...]])[: len(self.queue[...])]
        self.labels[...] = jnp.concatenate([labels, self.labels[...]])[: len(self.labels[...])]


def info_nce(positive, is_positive, negative, is_negative):
    """-log softmax of every positive cosine beside all negative ones, averaged."""
    lowest = lambda cosines, there: jnp.where(there, cosines / TEMPERATURE, -jnp.inf)  # noqa: E731
    against = jax.nn.logsumexp(lowest(negative, is_negative), axis=1, keepdims=True)
    loss = jax.nn.softplus(against - positive / TEMPERATURE)
    return jnp.mean(loss, where=is_positive)


def moco(online, momentum, views, labels):
    """InfoNCE of one view's crops with the copy's other view, against the queue."""
    momentum.follow(online.network)
    query = normalize(online.network(views[0]))
    key = jax.lax.stop_gradient(normalize(momentum.slow(views[1])))
    same = labels[:, None] == labels[None]
    others = labels[:, None] != momentum.labels[...][None]
    loss = info_nce(query @ key.T, same, query @ momentum.queue[...].T, others)
    momentum.push(key, labels)
    return loss


def byol(online, momentum, views, labels):
    """1 - cosine of the predictions and the copy's embeddings of the other view, both ways."""
    momentum.follow(online.network)
    predicted = normalize(online.predictor(online.network(jnp.concatenate(views))))
    target = jax.lax.stop_gradient(normalize(momentum.slow(jnp.concatenate(views[::-1]))))
    view = jnp.repeat(jnp.arange(2), len(labels))
    labels = jnp.concatenate([labels, labels])
    positive = (labels[:, None] == labels[None]) & (view[:, None] == view[None])
    return 1 - jnp.mean(predicted @ target.T, where=positive)


def simclr(online, momentum, views, labels):
    """NT-Xent of all crops of the batch."""
    z = normalize(online.network(jnp.concatenate(views)))
    labels = jnp.concatenate([labels, labels])
    same = labels[:, None] == labels[None]
    cosines = z @ z.T
    return info_nce(cosines, same & ~jnp.eye(len(z), dtype=bool), cosines, ~same)


METHODS = {"moco": moco, "byol": byol, "simclr": simclr}


def train(photos, network, method, pairs, steps, seed):
    """The trained network with its head, in evaluation mode, and the seconds it took."""
    pixels, sizes = crops.training_quarters(photos)
    online = Online(network, seed, method)
    momentum = Momentum(online, pairs * len(photos), method)

    def loss(online, momentum, key):
        pictures, labels = crops.random_crops(key, pixels, sizes, 2 * pairs)
        views = crops.normalised(pictures).reshape(-1, 2, *pictures.shape[1:])
        return METHODS[method](online, momentum, (views[:, 0], views[:, 1]), labels[::2])

    seconds = descend(online, momentum, loss, steps, seed, RATE[network])
    return online.network, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--method", choices=METHODS, default="moco")
    parser.add_argument("--network", choices=RATE, default="tiny")
    parser.add_argument("--pairs", type=int, default=4, help="of each photograph's crops in a step")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the weights here (.safetensors)")
    parser.add_argument("--quick", action="store_true", help="two steps, to see that it runs")
    options = parser.parse_args()
    steps, pairs, each = (2, 1, 2) if options.quick else (options.steps, options.pairs, 16)

    photos = photographs.load()
    model, seconds = train(photos, options.network, options.method, pairs, steps, options.seed)
    recall = crops.retrieval(model, photos, np.random.default_rng(0), each)
    figure = f"Recall@1 {recall:.3f} (chance {1 / len(photos):.3f})"
    print(figure)
    if options.out:
        about = {
            "architecture": options.network,
            "trained_by": f"examples/train_self_supervised.py --method {options.method} "
            f"--network {options.network}",
            **crops.ABOUT,
            "pairs": pairs,
            "steps": steps,
            "seed": options.seed,
            "processor_seconds": round(seconds),
            "figures": figure,
        }
        check = photographs.training_crops(photos, crops.SIZE)
        print(save(options.out, model, about, check, head="keep"))


if __name__ == "__main__":
    main()
