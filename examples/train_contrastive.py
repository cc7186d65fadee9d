"""Train the embedded network `tiny` from nothing, and measure how well its maps point.

    pip install "fam-jax[demo,train]"
    python examples/train_contrastive.py --out tiny.safetensors

Minutes on two processor cores. Every step sees random crops of every photograph, and the loss
(NT-Xent, as in SimCLR) asks that crops of one photograph be more alike than crops of two. Two
choices make for good maps. The embedding is the plain mean of non-negative features, with no
projection after it. The temperature is high: as the cosines of such embeddings lie in [0, 1], a
low loss then takes cosines near 0 between photographs, so channels silent for most of them. A
second term draws the embeddings' lengths towards 1, so that no crop is silent in all channels.

Half of every photograph is held out (`fam_jax.demo.photographs`) to measure
    retrieval     a crop of one held-out quarter looks for its photograph among crops of the other;
    mosaic game   four held-out crops in one image, and a reference crop for one of them from the
                  photograph's other held-out quarter: does the map lie in the right cell?
Training sees no mosaic.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fam_jax
from fam_jax.demo import mosaic_game, photographs
from pretrained_ports.convert import write
from pretrained_ports.preprocess import IMAGENET_MEAN, IMAGENET_STD
from pretrained_ports.tiny import Tiny

SIZE = 64  # pixels of a crop
VIEWS = 6  # crops of every photograph in a step
TEMPERATURE = 0.3
JITTER = 0.1  # of brightness, contrast and saturation
LENGTH = 0.1  # weight of the lengths in the loss
RATE = 4e-3
MEAN = np.array(IMAGENET_MEAN, np.float32).reshape(1, 1, 1, 3)
STD = np.array(IMAGENET_STD, np.float32).reshape(1, 1, 1, 3)
ABOUT = {
    "architecture": "tiny",
    "trained_by": "examples/train_contrastive.py",
    "trained_on": "upper right and lower left quarters of the photographs "
    + " ".join((*photographs.SKIMAGE, *photographs.SKLEARN)),
    "licence_of_photographs": "scikit-image: CC0 or public domain where it says so, motorcycle "
    "from the Middlebury 2014 stereo benchmark; scikit-learn (china, flower): CC BY 2.0, credits "
    "in its datasets/images/README.txt. No photograph is contained in the weights.",
    "purpose": "Shows how a similarity is explained. Knows these photographs and little else; not "
    "the state of the art of anything.",
}


def normalised(crops):
    """Pixels as the network takes them."""
    return (crops.astype(np.float32) / 255 - MEAN) / STD


def training_quarters(photos):
    """All training quarters, padded to one size, [n 2 h w 3], and their sizes [n 2 2]."""
    quarters = [[p.image[b.top : b.bottom, b.left : b.right] for b in p.training] for p in photos]
    sizes = np.array([[q.shape[:2] for q in pair] for pair in quarters])
    h, w = sizes.max((0, 1))
    pad = lambda q: np.pad(q, ((0, h - len(q)), (0, w - q.shape[1]), (0, 0)), mode="edge")  # noqa: E731
    pixels = np.array([[pad(q) for q in pair] for pair in quarters], np.float32)
    return jnp.asarray(pixels), jnp.asarray(sizes, jnp.float32)


def random_crop(key, pixels, sizes):
    """One augmented crop [SIZE SIZE 3] of one of a photograph's two training quarters."""
    quarter, scale, shape, place, flip, colour = jax.random.split(key, 6)
    quarter = jax.random.bernoulli(quarter).astype(int)
    side = jnp.exp(jax.random.uniform(scale, minval=jnp.log(48.0), maxval=jnp.log(128.0)))
    aspect = jnp.exp(jax.random.uniform(shape, minval=-0.25, maxval=0.25))
    extent = jnp.minimum(side * jnp.stack([aspect, 1 / aspect]), sizes[quarter])
    corner = jax.random.uniform(place, (2,)) * (sizes[quarter] - extent)
    zoom = SIZE / extent
    crop = jax.image.scale_and_translate(
        pixels[quarter], (SIZE, SIZE, 3), (0, 1), zoom, -corner * zoom, method="linear"
    )
    crop = jnp.where(jax.random.bernoulli(flip), crop[:, ::-1], crop)

    low, high = 1 - JITTER, 1 + JITTER
    brightness, contrast, saturation = jax.random.uniform(colour, (3,), minval=low, maxval=high)
    crop = brightness * crop
    crop = jnp.mean(crop) + contrast * (crop - jnp.mean(crop))
    grey = jnp.mean(crop, axis=-1, keepdims=True)
    return jnp.clip(grey + saturation * (crop - grey), 0, 255)


def random_crops(key, pixels, sizes, each):
    """`each` augmented crops of every photograph, and the photographs' numbers."""
    labels = jnp.repeat(jnp.arange(len(sizes)), each)
    keys = jax.random.split(key, len(labels))
    return jax.vmap(lambda k, i: random_crop(k, pixels[i], sizes[i]))(keys, labels), labels


def loss(embeddings, labels):
    """NT-Xent, -log softmax of the cosines averaged over all positives, and lengths drawn to 1."""
    z = fam_jax.similarity.normalize(embeddings)
    itself = jnp.eye(len(labels), dtype=bool)
    logits = jnp.where(itself, -jnp.inf, z @ z.T / TEMPERATURE)
    positive = (labels[:, None] == labels[None]) & ~itself
    nt_xent = -jnp.mean(jax.nn.log_softmax(logits), where=positive)
    log_length = jnp.log(jnp.sum(embeddings**2, axis=1) + 1e-6) / 2
    return nt_xent + LENGTH * jnp.mean(log_length**2)


def train(pixels, sizes, steps, seed):
    """The trained network, in evaluation mode."""
    model = Tiny(rngs=nnx.Rngs(seed))
    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, steps // 10, steps, RATE / 100)
    descent = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-3))
    optimizer = nnx.Optimizer(model, descent, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, key):
        crops, labels = random_crops(key, pixels, sizes, VIEWS)
        embedded = lambda model: loss(model(normalised(crops)), labels)  # noqa: E731
        value, gradient = nnx.value_and_grad(embedded)(model)
        optimizer.update(model, gradient)
        return value

    start = time.time()
    for i in range(steps):
        value = step(model, optimizer, jax.random.fold_in(jax.random.key(seed), i))
        if i % 50 == 0 or i == steps - 1:
            print(f"step {i:4d}  loss {value:.3f}  {time.time() - start:4.0f} s", flush=True)
    model.eval()
    return model


def retrieval(embed, photos, rng, each=16):
    """Recall@1: nearest of all crops in the other held-out quarters, in both directions."""
    z, r = (
        embed(np.stack([photographs.draw(p, rng, q, SIZE) for p in photos for _ in range(each)]))
        for q in (0, 1)
    )
    cosines = fam_jax.similarity.normalize(z) @ fam_jax.similarity.normalize(r).T
    label = jnp.repeat(jnp.arange(len(photos)), each)
    hits = [label[jnp.argmax(s, axis=1)] == label for s in (cosines, cosines.T)]
    return float(jnp.mean(jnp.stack(hits)))


def pointing_scores(model, photos, background, seeds, count):
    """Method -> [2, seeds * count]: mass in the right cell, and whether the peak is in it."""
    encode = fam_jax.capture(model, at="layer3")
    rules = mosaic_game.rules(background)
    scores = {name: [] for name in rules}
    for seed in range(seeds):
        games = photographs.mosaics(photos, np.random.default_rng(seed), count, SIZE)
        images, references = normalised(games.images), normalised(games.references)
        for name, (_, mass, hits) in mosaic_game.play(
            encode, rules, images, references, games.masks
        ).items():
            scores[name].append((mass, hits))
    return {name: np.concatenate(np.array(s, float), axis=1) for name, s in scores.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the weights here (.safetensors)")
    parser.add_argument("--quick", action="store_true", help="three steps, to see that it runs")
    options = parser.parse_args()
    steps, seeds, count = (3, 1, 8) if options.quick else (options.steps, 5, 100)

    photos = photographs.load()
    pixels, sizes = training_quarters(photos)
    model = train(pixels, sizes, steps, options.seed)
    network = nnx.jit(lambda model, crops: model(normalised(crops)))
    embed = lambda crops: network(model, crops)  # noqa: E731
    crops, _ = random_crops(jax.random.key(options.seed), pixels, sizes, each=8)

    recall = retrieval(embed, photos, np.random.default_rng(0))
    figures = [f"Recall@1 {recall:.3f} (chance {1 / len(photos):.3f})"]
    scores = pointing_scores(model, photos, embed(crops), seeds, count)
    for name, (mass, hit) in scores.items():
        figures.append(f"{name}: mass {mass.mean():.3f}, pointing {hit.mean():.3f} (chance 0.25)")
    print("\n".join(figures))
    if options.out:
        record = {"steps": str(steps), "seed": str(options.seed), "figures": "; ".join(figures)}
        print("wrote", write(options.out, model, ABOUT | record))


if __name__ == "__main__":
    main()
