"""Labelled pictures for metric learning: reading them, batches of views, and Recall@1."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.stats import binomtest
from sklearn.datasets import load_digits

from fam_jax._core.similarity import normalize
from fam_jax.io import pictures
from training import embed

CLASSES, EACH = 8, 8  # in a step: at most so many classes, and so many pictures of each


class Pictures(nnx.Module):
    """Pictures [n H W c] as the network takes them, and their classes [n]."""

    def __init__(self, pictures, labels):
        self.pictures, self.labels = nnx.Variable(jnp.asarray(pictures)), nnx.Variable(labels)
        self.classes = tuple(map(int, np.unique(labels)))

    def batch(self, key):
        """EACH pictures of some classes, every one moved a little, and their classes."""
        which, chosen, place = jax.random.split(key, 3)
        labels = jax.random.permutation(which, jnp.array(self.classes))[:CLASSES].repeat(EACH)
        of_class = jnp.where(self.labels[...] == labels[:, None], 0.0, -jnp.inf)
        pictures = self.pictures[...][jax.random.categorical(chosen, of_class)]
        return jax.vmap(moved)(jax.random.split(place, len(labels)), pictures), labels


def moved(key, picture):
    """The picture [H W c] moved by up to an eighth of its sides, with its edge repeated."""
    room = (picture.shape[0] // 8, picture.shape[1] // 8, 0)
    padded = jnp.pad(picture, [(side, side) for side in room], mode="edge")
    corner = jax.random.randint(key, (3,), 0, 2 * jnp.array(room) + 1)
    return jax.lax.dynamic_slice(padded, corner, picture.shape)


def digits():
    """scikit-learn's digits [8 8], their labels, and the names of the classes."""
    pixels, labels = load_digits(return_X_y=True)
    levels = np.rint(pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    return list(levels), labels, [str(digit) for digit in range(10)]


def folders(folder):
    """The pictures in the folders within `folder`, their labels, and the names of the classes."""
    classes = sorted(path for path in folder.glob("*/") if not path.name.startswith("."))
    files = [pictures.find([path]) for path in classes]
    if len(files) < 4 or min(map(len, files)) < 2:
        held = ", ".join(f"{path.name} {len(f)}" for path, f in zip(classes, files, strict=True))
        raise ValueError(
            f"{folder}: needs at least 4 folders, one for each class, with 2 pictures in each; "
            f"there are: {held or 'none'}"
        )
    labels = np.repeat(np.arange(len(files)), [len(f) for f in files])
    return [pictures.read(file) for f in files for file in f], labels, [c.name for c in classes]


def embeddings(model, pictures):
    """[n H W c] -> [n d], a few at a time."""
    parts = [embed(model, pictures[i : i + 32]) for i in range(0, len(pictures), 32)]
    return jnp.concatenate(parts)


def recall(name, z, labels):
    """Print Recall@1 of embeddings [n d], and its 95 % interval (Wilson's) over the pictures."""
    z = normalize(z)
    cosines = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, z @ z.T)
    hits = labels[np.argmax(cosines, axis=1)] == labels
    estimate = binomtest(int(hits.sum()), len(hits))
    low, high = estimate.proportion_ci(method="wilson")
    print(f"Recall@1 {estimate.statistic:.3f} ({low:.3f} to {high:.3f})  {name}", flush=True)
