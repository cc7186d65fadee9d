"""Few-shot episodes, drawn inside a compiled step, and the two data sets they are drawn from.

A data set is an array [classes examples H W c] of what a network takes. Omniglot's zip files are
those of github.com/brendenlake/omniglot, folder `python`.
"""

import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

BACKGROUND = ("images_background_small1.zip", "images_background_small2.zip")
RUNS = 20  # of all_runs.zip


def draw(key, pictures, ways, each, turns=1):
    """An episode [ways each H W c]: different classes, and different examples of each.

    With `turns` = 4 every class counts as four, turned by quarters of a circle.
    """
    which, examples = jax.random.split(key)
    classes = jax.random.choice(which, turns * pictures.shape[0], (ways,), replace=False)

    def one(key, label):
        chosen = jax.random.choice(key, pictures.shape[1], (each,), replace=False)
        pictures_of = pictures[label // turns, chosen]
        turned = [jnp.rot90(pictures_of, k, axes=(1, 2)) for k in range(turns)]
        return jnp.stack(turned)[label % turns]

    return jax.vmap(one)(jax.random.split(examples, ways), classes)


def digits(preprocess):
    """scikit-learn's digits [10 174 H W c], dark on light as Omniglot's drawings are."""
    from sklearn.datasets import load_digits

    data = load_digits()
    inked = np.uint8(255 - 255 / 16 * data.images)
    fewest = np.bincount(data.target).min()
    return np.stack(
        [[preprocess(x) for x in inked[data.target == label][:fewest]] for label in range(10)]
    )


def omniglot(folder, preprocess):
    """All drawings of the two small background sets [characters 20 H W c]."""
    characters = {}
    for name in BACKGROUND:
        with zipfile.ZipFile(folder / name) as archive:
            for file in sorted(archive.namelist()):
                if file.endswith(".png"):
                    drawing = _read(archive, file, preprocess)
                    characters.setdefault(file.rpartition("/")[0], []).append(drawing)
    return np.array(list(characters.values()))


def official_runs(folder, preprocess, runs=RUNS):
    """Queries and supports [20 H W c] of each of the official runs, in the same order."""
    with zipfile.ZipFile(folder / "all_runs.zip") as archive:
        for run in range(1, runs + 1):
            lines = archive.read(f"run{run:02}/class_labels.txt").decode().split("\n")
            pairs = [line.split() for line in lines if line.strip()]
            yield tuple(
                np.stack([_read(archive, file, preprocess) for file in files])
                for files in zip(*pairs, strict=True)
            )


def _read(archive, file, preprocess):
    return preprocess(Image.open(io.BytesIO(archive.read(file))))
