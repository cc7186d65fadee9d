"""Random crops of photographs to train on, and retrieval among crops that were held out.

Half of every photograph is for training, half is held out (`fam_jax.io.photographs`).
"""

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax.io import photographs
from pretrained_ports.preprocess import IMAGENET_MEAN, IMAGENET_STD
from training import embed

SIZE = 64  # pixels of a crop
JITTER = 0.1  # of brightness, contrast and saturation
MEAN = np.array(IMAGENET_MEAN, np.float32).reshape(1, 1, 1, 3)
STD = np.array(IMAGENET_STD, np.float32).reshape(1, 1, 1, 3)
ABOUT = {
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


def retrieval(model, photos, rng, each=16):
    """Recall@1: nearest of all crops in the other held-out quarters, in both directions.

    Colours alone go far: `tiny` with random weights has 0.46, `vit-mini-patch8` 0.57.
    """
    draw = lambda q: [photographs.draw(p, rng, q, SIZE) for p in photos for _ in range(each)]  # noqa: E731
    z, r = (embed(model, normalised(np.stack(draw(q)))) for q in (0, 1))
    cosines = fam_jax.normalize(z) @ fam_jax.normalize(r).T
    label = jnp.repeat(jnp.arange(len(photos)), each)
    hits = [label[jnp.argmax(s, axis=1)] == label for s in (cosines, cosines.T)]
    return float(jnp.mean(jnp.stack(hits)))
