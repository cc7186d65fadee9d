"""Fine-tune a backbone with a projection head, and see its maps before and after.

    pip install ".[demo,train]"
    python examples/finetune_backbone.py                    # `tiny`, on handwritten digits
    python examples/finetune_backbone.py --freeze           # only the head learns
    python examples/finetune_backbone.py --model cifar-resnet20 --weights resnet20.th
    python examples/finetune_backbone.py --model vit-mini-patch8 --weights random
    python examples/finetune_backbone.py --model resnet50 --data FOLDER    # FOLDER/class/picture

Minutes on two processor cores for the small models. Every other class is learned, by a supervised
contrastive loss (Khosla et al., 2020); the classes between are held out. On those: Recall@1 (is the
nearest other picture of the same class?) of the backbone as it was, of the fine-tuned head, and of
the fine-tuned backbone without its head. Expect much from fine-tuning `tiny`, which has never seen
a digit, and little from a head behind a frozen backbone. `maps.png` has pairs of held-out pictures,
their maps and cosines, before and after.

Maps of a head's embedding go through the head: `capture` takes the whole module. The method is
`decomposition`, as the embedding is signed. The head is linear, without a bias, so the map still
sums to the cosine where the backbone pools its layer; the script prints by how much it does not.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import fam_jax
import pretrained_ports
from fam_jax import plot
from fam_jax._core.similarity import normalize
from labelled import Pictures, digits, embeddings, folders, recall
from training import descend

CHANNELS = 64  # of the head's embedding
TEMPERATURE = 0.1
RATE, HEAD_RATE = 5e-4, 4e-3  # the highest learning rates, with the backbone and without


class Projected(nnx.Module):
    """A backbone and a linear head: images [b H W c] -> embeddings [b CHANNELS]."""

    def __init__(self, backbone, width, rngs):
        self.backbone = backbone
        # It starts as a rotation (or a projection): the cosines are at first the backbone's.
        start = nnx.initializers.orthogonal()
        self.head = nnx.Linear(width, CHANNELS, use_bias=False, kernel_init=start, rngs=rngs)

    def __call__(self, images):
        """Signed embeddings, to be compared by their cosine."""
        return self.head(self.backbone(images))


def contrastive(embeddings, labels):
    """-log softmax of the cosines over the batch, averaged over all of the same class."""
    z = normalize(embeddings)
    itself = jnp.eye(len(labels), dtype=bool)
    logits = jnp.where(itself, -jnp.inf, z @ z.T / TEMPERATURE)
    positive = (labels[:, None] == labels[None]) & ~itself
    return -jnp.mean(jax.nn.log_softmax(logits), where=positive)


def fine_tune(model, data, steps, seed, freeze):
    """Fit the head, and the backbone with it unless that is to stay as it is."""
    if freeze:  # in evaluation mode: running statistics would move without any gradient

        def loss(head, kept, key):
            pictures, labels = kept["data"].batch(key)
            return contrastive(head(kept["backbone"](pictures)), labels)

        kept = nnx.Dict(data=data, backbone=model.backbone)
        descend(model.head, kept, loss, steps, seed, HEAD_RATE)
        return

    def loss(model, data, key):
        pictures, labels = data.batch(key)
        return contrastive(model(pictures), labels)

    model.train()
    descend(model, data, loss, steps, seed, RATE)


def probes(z, labels):
    """Pairs of the first held-out classes: another of the class, and the nearest of another."""
    cosines, pairs = np.array(normalize(z) @ normalize(z).T), []
    for label in np.unique(labels)[:3]:
        query, reference = np.flatnonzero(labels == label)[:2]
        rival = np.argmax(np.where(labels == label, -np.inf, cosines[query]))
        pairs += [(query, reference), (query, rival)]
    return np.array(pairs)


def explain(model, at, tokens, pictures, pairs):
    """Maps and cosines of pairs; prints how far the maps are from summing to the cosine."""
    encode = fam_jax.capture(model, at=at, tokens=tokens)
    method = fam_jax.decomposition()
    out = fam_jax.explain_pairs(encode, *(pictures[i] for i in pairs.T), method)
    apart = np.max(np.abs(np.sum(out.query_maps, axis=(1, 2)) - out.scores))
    print(f"maps at {at}: the sum differs from the cosine by at most {apart:.1e}")
    return out


def draw(views, names, pairs, before, after):
    """A row for every pair: both pictures, and both under their maps before and after."""
    rows, captions = [], []
    for i, pair in enumerate(pairs):
        shown = [views[j] for j in pair]
        row, line = list(shown), [f"query: {names[pair[0]]}", f"reference: {names[pair[1]]}"]
        for when, out in (("before", before), ("after", after)):
            both = (out.query_maps[i], out.reference_maps[i])
            # What speaks for the similarity; the rest is left bare.
            row += [plot.overlay(v, np.maximum(m, 0)) for v, m in zip(shown, both, strict=True)]
            line += [f"{when}: cosine {out.scores[i]:.2f}", ""]
        rows.append(row)
        captions.append(line)
    return plot.grid_figure(rows, captions=captions, colorbar=True, cell=1.7)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny", help="a name that `fam-jax models` lists")
    parser.add_argument("--weights", help="a checkpoint file, or: random")
    parser.add_argument("--freeze", action="store_true", help="keep the backbone as it is")
    parser.add_argument("--data", type=Path, help="folder with a folder of pictures for each class")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("finetune_backbone"), help="folder")
    parser.add_argument("--quick", action="store_true", help="two steps, to see that it runs")
    options = parser.parse_args()
    try:
        pictures, labels, names = folders(options.data) if options.data else digits()
        if options.weights == "random":
            backbone = pretrained_ports.create(options.model, options.seed)
        else:
            backbone = pretrained_ports.load(options.model, options.weights)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    if options.quick:
        pictures, labels = pictures[:150], labels[:150]

    network, preprocess = backbone.model, backbone.preprocess
    views = [np.asarray(preprocess.view(picture)) for picture in pictures]
    inputs = preprocess.normalise(np.stack(views).reshape(len(views), *preprocess.size, -1))
    held_out = labels % 2 == 1
    data = Pictures(inputs[~held_out], labels[~held_out])
    views = [view for view, held in zip(views, held_out, strict=True) if held]
    inputs, labels = inputs[held_out], labels[held_out]
    print(f"{options.model}, {backbone.source}; {len(labels)} pictures held out")

    z = embeddings(network, inputs)
    recall("backbone as it was", z, labels)
    pairs = probes(z, labels)
    before = explain(network, backbone.layer, backbone.tokens, inputs, pairs)
    learned = (nnx.Param, nnx.BatchStat)
    kept = jax.tree.map(np.array, nnx.state(network, learned))
    model = Projected(network, backbone.embedding_dim, nnx.Rngs(options.seed))
    model.eval()
    fine_tune(model, data, 2 if options.quick else options.steps, options.seed, options.freeze)
    if options.freeze:
        jax.tree.map(np.testing.assert_array_equal, kept, nnx.state(network, learned))
        print("the backbone is unchanged, running statistics and all")
    recall("backbone and head, fine-tuned", embeddings(model, inputs), labels)
    if not options.freeze:
        recall("backbone alone, fine-tuned", embeddings(network, inputs), labels)
    after = explain(model, f"backbone.{backbone.layer}", backbone.tokens, inputs, pairs)

    options.out.mkdir(parents=True, exist_ok=True)
    figure = draw(views, [names[label] for label in labels], pairs, before, after)
    figure.savefig(options.out / "maps.png")
    print(f"wrote {options.out / 'maps.png'}")


if __name__ == "__main__":
    main()
