"""Explain point clouds: which eighth of a cloud looks like this piece of a surface?

    pip install ".[demo,train]" nilearn
    python examples/point_cloud.py --out points     # writes points/point_cloud.png

Minutes on two processor cores. The shapes are real: the surface of both halves of the human cortex,
the average `fsaverage5` of 20,484 points from magnetic resonance tomography, which ships inside
nilearn. A network that sees the neighbours of every point, as offsets and nothing else, learns
without labels to tell pieces of the front apart (NT-Xent); a view of a piece keeps two thirds of
its points, turned by up to 15 degrees. Then the mosaic game, with pieces from the rear: eight of
them at the corners of a cube are one cloud [n 3], and a reference is another view of one of the
eight. How much of each map's positive mass lies on its points, and how often does its peak (chance
1/8)?

`nmf_concepts` is the formula of FFAM (Liu et al., NeurIPS 2024), which was made for detectors in
point clouds: non-negative factors of the points' features, weighted by mean gradients. Here the two
clouds share their factors.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import fam_jax
from fam_jax.metrics import energy_in, pointing
from training import descend
from volume import nt_xent

AROUND, POINTS, NEAR = 96, 64, 12  # of a piece, of a view of it, and how many a point sees
APART = 90.0  # millimetres between pieces of a mosaic: no point sees another piece
BATCH, STEPS = 48, 400
TURN = np.deg2rad(15)


def cortex():
    """The points of both halves [20484 3], in millimetres: to the right, to the front, up."""
    import nibabel
    from nilearn import datasets

    folder = Path(datasets.__file__).parent / "data" / "fsaverage5"
    halves = [nibabel.load(folder / f"pial_{side}.gii.gz") for side in ("left", "right")]
    return np.concatenate([half.darrays[0].data for half in halves])


class Pieces:
    """The points around each centre in the front or in the rear part, seen in changed ways."""

    def __init__(self, points, front):
        half = len(points) // 2
        sides = points[:half], points[half:]
        pieces = np.concatenate([side[near(side, side, AROUND)] for side in sides])
        pieces = pieces - pieces.mean(axis=1, keepdims=True)
        middle, reach = np.median(points[:, 1]), 25.0  # no point is in a piece of either part
        self.inside = points[:, 1] > middle + reach if front else points[:, 1] < middle - reach
        self.pieces = jnp.asarray(pieces[self.inside], jnp.float32)
        self.centres = points[self.inside]

    @partial(jax.jit, static_argnums=0)
    def views(self, which, key):
        """A view of each piece [n 64 3]: some of its points, turned and moved a little."""
        turn, pick, noise = jax.random.split(key, 3)
        n = len(which)
        kept = jax.vmap(lambda key: jax.random.permutation(key, AROUND)[:POINTS])
        rows = kept(jax.random.split(pick, n))
        cloud = jnp.take_along_axis(self.pieces[which], rows[..., None], axis=1)
        axis = TURN * jax.random.uniform(turn, (n, 3), minval=-1, maxval=1) / np.sqrt(3)
        cloud = cloud + jnp.cross(axis[:, None], cloud)  # of a small turn, the first order
        return cloud + 0.2 * jax.random.normal(noise, cloud.shape)


def near(points, centres, count):
    """The numbers of the `count` points that are nearest to each centre, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=count).fit(points).kneighbors(centres)[1]


class Net(nnx.Module):
    """Clouds [b n 3] -> embeddings [b 32]: twice what every point sees of its neighbours."""

    def __init__(self, rngs):
        def two(inputs):
            layers = nnx.Linear(inputs, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 32, rngs=rngs)
            return nnx.Sequential(*layers)

        self.first, self.second = two(3), two(35)
        self.last = nnx.Sequential(nnx.BatchNorm(32, momentum=0.9, rngs=rngs), nnx.relu)

    def __call__(self, clouds):
        """Embed."""
        away = jnp.sum((clouds[:, :, None] - clouds[:, None]) ** 2, axis=-1)
        rows = jax.lax.top_k(-away, NEAR + 1)[1]  # itself among them
        pick = jax.vmap(lambda x, rows: x[rows])
        offsets = (pick(clouds, rows) - clouds[:, :, None]) / 10
        seen = self.first(offsets).max(axis=2)
        seen = self.second(jnp.concatenate([pick(seen, rows), offsets], axis=-1)).max(axis=2)
        return self.last(seen).mean(axis=1)


def train(pieces, steps, seed):
    model = Net(nnx.Rngs(seed))

    def loss(model, _, key):
        pick, first, second = jax.random.split(key, 3)
        which = jax.random.choice(pick, len(pieces.pieces), (BATCH,), replace=False)
        views = pieces.views(which, first), pieces.views(which, second)
        return nt_xent(*jnp.split(model(jnp.concatenate(views)), 2))

    descend(model, None, loss, steps, seed)
    return model


def games(pieces, count, seed):
    """Mosaics [n 512 3] of eight pieces, references [n 64 3] of one of them, its number."""
    rng, corners = np.random.default_rng(seed), APART * np.stack([*np.ndindex(2, 2, 2)])
    mosaics, references, right = [], [], rng.integers(8, size=count)
    for i in range(count):
        one, other = jax.random.split(jax.random.fold_in(jax.random.key(seed), i))
        which = apart(pieces.centres, rng)
        clouds = pieces.views(which, one) + corners[:, None]
        mosaics.append(clouds.reshape(-1, 3))
        references.append(pieces.views(which[right[i]][None], other)[0])
    return np.stack(mosaics), np.stack(references), right


def apart(centres, rng, least=30.0):
    """The numbers of eight centres that lie at least so many millimetres from each other."""
    order = rng.permutation(len(centres))
    kept = order[:1]
    for i in order[1:]:
        if len(kept) == 8:
            break
        if np.linalg.norm(centres[kept] - centres[i], axis=1).min() >= least:
            kept = np.append(kept, i)
    return kept


def picture(cloud, map, right, reference):
    """The cloud from two sides, coloured by its map, and the reference beside it."""
    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    heat = np.asarray(fam_jax.rescale(map, axes=(0,)))
    piece = cloud.reshape(8, -1, 3)[right].mean(axis=0)
    for i, (elevation, turn) in enumerate(((15, -65), (15, 25))):
        ax = figure.add_subplot(1, 3, i + 1, projection="3d")
        dots = ax.scatter(*cloud.T, c=heat, cmap="turbo", s=4)
        ax.text(*piece[:2], piece[2] + 26, "this one", ha="center", fontsize=8)
        ax.set_box_aspect((1, 1, 1), zoom=1.45)
        ax.view_init(elevation, turn)
        ax.set_title(f"seen from {turn} degrees", fontsize=9)
        ax.set_axis_off()
    ax = figure.add_subplot(1, 3, 3, projection="3d")
    ax.scatter(*reference.T, color="0.4", s=4)
    ax.set_title("the reference", fontsize=9)
    ax.set_axis_off()
    bar = figure.colorbar(dots, ax=figure.axes, shrink=0.6, ticks=[0, 1])
    bar.ax.set_yticklabels(["low", "high"], fontsize=8)
    figure.suptitle("Which of eight pieces of cortex looks like the reference? (contrastive)")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="mosaics")
    parser.add_argument("--out", type=Path, default=Path("points"), help="folder of the figure")
    parser.add_argument("--quick", action="store_true", help="hardly trained, to see that it runs")
    options = parser.parse_args()
    steps, count = (4, 4) if options.quick else (STEPS, options.count)
    points = cortex()
    seen, unseen = (Pieces(points, front) for front in (True, False))
    model = train(seen, steps, seed=0)
    encode = fam_jax.capture(model, at="last")

    some = np.linspace(0, len(seen.pieces) - 1, 64).astype(int)
    background = encode(seen.views(some, jax.random.key(1))).embeddings
    methods = {
        "contrastive": fam_jax.contrastive(background),
        "decomposition": fam_jax.decomposition(),
        "fam": fam_jax.fam(),
        "nmf_concepts": fam_jax.nmf_concepts(),
        "activation_sum": fam_jax.activation_sum(),
    }
    mosaics, references, right = games(unseen, count, seed=2)
    masks = jnp.asarray(np.arange(8).repeat(POINTS)[None] == right[:, None])
    table = Table(title=f"{count} mosaics: mean (standard error), chance 0.125")
    for name in ("method", "mass", "pointing"):
        table.add_column(name)
    maps = {}
    for name, method in methods.items():
        maps[name] = fam_jax.explain_pairs(encode, mosaics, references, method).query_maps
        scores = energy_in(maps[name], masks), pointing(maps[name], masks)
        cells = (f"{np.mean(s):.2f} ({np.std(s) / np.sqrt(count):.2f})" for s in scores)
        table.add_row(name, *cells)
    Console().print(table)

    options.out.mkdir(parents=True, exist_ok=True)
    figure = picture(mosaics[0], maps["contrastive"][0], right[0], references[0])
    figure.savefig(options.out / "point_cloud.png")
    print(options.out / "point_cloud.png")


if __name__ == "__main__":
    main()
