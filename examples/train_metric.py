"""Train a small network for retrieval by a metric loss, from nothing.

    pip install ".[demo,train]"
    python examples/train_metric.py --loss triplet --out triplet.safetensors
    python examples/train_metric.py --loss supcon --data digits --out digits.safetensors

Minutes on one processor core. Embeddings are compared by their cosine:
    triplet   every one of the same class nearer than every one of another, by a margin; the mean
              over the triplets of the batch that are not yet so ("batch all": Hermans et al., "In
              Defense of the Triplet Loss", 2017);
    proxy     a learned proxy of every class draws its own and repels the others
              (Kim et al., "Proxy Anchor Loss for Deep Metric Learning", 2020);
    supcon    -log softmax over the batch, averaged over all of the same class
              (Khosla et al., "Supervised Contrastive Learning", 2020).
The data are
    photographs   `tiny` on crops of 18 photographs, half of each held out;
    digits        `cifar-resnet20` on scikit-learn's handwritten digits, half of them held out.
`triplet` and `proxy` put a linear head without bias behind the pooling: the embedding has both
signs, and decompositions of the similarity stay exact. `supcon` compares the pooled features.
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
from pretrained_ports.models.projection import ProjectionHead
from training import descend, embed, save

CHANNELS = 64  # of the embedding behind a linear head
VIEWS = 6  # pictures of every class in a step
MARGIN = 0.3  # of squared distances, the triplet loss
SCALE, SLACK = 16.0, 0.1  # of the cosines, the proxies
TEMPERATURE = 0.2  # of the cosines, the supervised contrastive loss
ABOUT_DIGITS = {
    "trained_on": "every other one of scikit-learn's load_digits: test set of the Optical "
    "Recognition of Handwritten Digits data of the UCI repository, CC BY 4.0",
    "purpose": "Shows how a similarity is explained; not the state of the art of anything.",
}


class Photographs:
    """Crops of photographs; a photograph is a class."""

    network = "tiny"
    about = crops.ABOUT
    normalised = staticmethod(crops.normalised)

    def __init__(self):
        self.photos = photographs.load()
        self.quarters = crops.training_quarters(self.photos)
        self.classes = len(self.photos)
        self.pictures = photographs.training_crops(self.photos, crops.SIZE)

    def batch(self, key):
        """Augmented crops, uint8 levels as floats, and their classes."""
        return crops.random_crops(key, *self.quarters, VIEWS)

    def recall(self, model, each):
        """Recall@1 from one held-out quarter to the other, `each` crops of a photograph."""
        return crops.retrieval(model, self.photos, np.random.default_rng(0), each)


class Digits:
    """Handwritten digits of 8 x 8 pixels at 32 x 32, as `cifar-resnet20` prepares them."""

    network = "cifar-resnet20"
    classes = 10
    normalised = staticmethod(crops.normalised)  # ImageNet's mean and deviation, there too
    about = ABOUT_DIGITS

    def __init__(self):
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        preprocess = pretrained_ports.create(self.network).preprocess
        levels = np.rint(pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
        pictures = np.stack([np.asarray(preprocess.view(picture)) for picture in levels])
        self.pictures, self.held_out = pictures[::2], pictures[1::2]
        self.held_out_labels = labels[1::2]
        least = np.bincount(labels[::2]).min()
        self.by_class = jnp.stack(
            [jnp.asarray(self.pictures[labels[::2] == c][:least]) for c in range(self.classes)]
        )

    def batch(self, key):
        """Digits moved and stretched a little, levels as floats, and their classes."""
        which, scale, shift = jax.random.split(key, 3)
        n = self.classes * VIEWS
        labels = jnp.repeat(jnp.arange(self.classes), VIEWS)
        chosen = jax.random.randint(which, (n,), 0, self.by_class.shape[1])
        pictures = self.by_class[labels, chosen].astype(jnp.float32)
        scales = jnp.exp(jax.random.uniform(scale, (n, 2), minval=-0.15, maxval=0.15))
        shifts = jax.random.uniform(shift, (n, 2), minval=-3.0, maxval=3.0)
        place = lambda x, s, t: jax.image.scale_and_translate(  # noqa: E731
            x, x.shape, (0, 1), s, t + 16 * (1 - s), method="linear"
        )
        return jax.vmap(place)(pictures, scales, shifts), labels

    def recall(self, model, _):
        """Recall@1 of every held-out digit among the others."""
        z = normalize(embed(model, self.normalised(self.held_out)))
        cosines = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, z @ z.T)
        labels = jnp.asarray(self.held_out_labels)
        return float(jnp.mean(labels[jnp.argmax(cosines, axis=1)] == labels))


class Learner(nnx.Module):
    """What is trained: the network, and a proxy of every class."""

    def __init__(self, network, loss, classes, seed):
        rngs = nnx.Rngs(seed)
        backbone = pretrained_ports.create(network, seed)
        self.network, width = backbone.model, backbone.embedding_dim
        if loss in ("triplet", "proxy"):
            self.network.head = ProjectionHead({"0.kernel": (width, CHANNELS)}, rngs=rngs)
            width = CHANNELS
        self.proxies = nnx.Param(jax.random.normal(rngs.params(), (classes, width)))
        self.train()


def triplet(z, labels, _):
    """Mean of distance(a, p) - distance(a, n) + margin where positive; distances are squared."""
    distances = 2 - 2 * z @ z.T
    same = labels[:, None] == labels[None]
    excess = distances[:, :, None] - distances[:, None] + MARGIN
    itself = jnp.eye(len(labels), dtype=bool)
    excess = jnp.where((same & ~itself)[:, :, None] & ~same[:, None], excess, 0)
    violated = jnp.sum((excess > 0).astype(excess.dtype))
    return jnp.sum(jax.nn.relu(excess)) / jnp.maximum(violated, 1.0)


def proxy(z, labels, proxies):
    """Per proxy, log(1 + sum exp) of what its own lack and of what the others have too much."""
    cosines = z @ normalize(proxies).T
    own = labels[:, None] == jnp.arange(proxies.shape[0])[None]
    pull = jnp.where(own, -SCALE * (cosines - SLACK), -jnp.inf)
    push = jnp.where(own, -jnp.inf, SCALE * (cosines + SLACK))
    soft = lambda logits: jnp.mean(jax.nn.softplus(jax.nn.logsumexp(logits, axis=0)))  # noqa: E731
    return soft(pull) + soft(push)


def supcon(z, labels, _):
    """-log softmax of the cosines over the batch, averaged over all positives."""
    itself = jnp.eye(len(labels), dtype=bool)
    logits = jnp.where(itself, -jnp.inf, z @ z.T / TEMPERATURE)
    positive = (labels[:, None] == labels[None]) & ~itself
    return -jnp.mean(jax.nn.log_softmax(logits), where=positive)


LOSSES = {"triplet": triplet, "proxy": proxy, "supcon": supcon}
DATA = {"photographs": Photographs, "digits": Digits}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--loss", choices=LOSSES, default="triplet")
    parser.add_argument("--data", choices=DATA, default="photographs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the weights here (.safetensors)")
    parser.add_argument("--quick", action="store_true", help="two steps, to see that it runs")
    options = parser.parse_args()
    steps, each = (2, 2) if options.quick else (options.steps, 16)

    data = DATA[options.data]()
    learner = Learner(data.network, options.loss, data.classes, options.seed)

    def loss(learner, _, key):
        pictures, labels = data.batch(key)
        z = normalize(learner.network(data.normalised(pictures)))
        return LOSSES[options.loss](z, labels, learner.proxies[...])

    seconds = descend(learner, None, loss, steps, options.seed)
    model = learner.network
    recall = data.recall(model, each)
    figure = f"Recall@1 {recall:.3f} (chance {1 / data.classes:.3f})"
    print(figure)
    if options.out:
        about = {
            "architecture": data.network,
            "trained_by": f"examples/train_metric.py --loss {options.loss} --data {options.data}",
            **data.about,
            "steps": steps,
            "seed": options.seed,
            "processor_seconds": round(seconds),
            "figures": figure,
        }
        head = "drop" if options.loss == "supcon" else "keep"
        print(save(options.out, model, about, data.pictures[:32], head))


if __name__ == "__main__":
    main()
