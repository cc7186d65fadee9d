"""Explain in three dimensions: which eighth of a volume looks like this piece of a brain?

    pip install ".[demo,train]" nilearn
    python examples/volume.py --out volume          # writes volume/volume.png

Minutes on two processor cores. The volume is the MNI152 template at 2 mm, the average of 152 heads
from magnetic resonance tomography, which ships inside nilearn. A small network learns, without
labels, to tell pieces of 3.2 cm from the front of the brain apart (NT-Xent). Then the mosaic game,
with pieces from the rear, which it has not seen: eight of them make one volume, and a reference is
cut around one of the eight places again, shifted and with other brightness. How much of each map's
positive mass lies in the right eighth, and how often does its peak (chance 1/8)?

`nmf_concepts` weighs concepts that both volumes share by gradients, which is FFAM's idea for
detectors in point clouds. What this shows is that maps of volumes point; of one average brain
nothing can be learnt about patients.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

import fam_jax
from fam_jax.metrics import energy_in, pointing
from training import descend

CELL, SHIFT = 16, 2  # voxels of 2 mm: the side of a piece, and how far a view of it is moved
BATCH, STEPS, TEMPERATURE = 48, 300, 0.1
LEAST = 0.15  # the mean brightness of a piece: none is of air


def brain():
    """The template [99 117 95], from left to right, back to front and bottom to top, in [0, 1]."""
    from nilearn.datasets import load_mni152_template

    voxels = np.asarray(load_mni152_template(resolution=2).get_fdata(), np.float32)
    return voxels / voxels.max()


class Pieces:
    """Cubes of the front or of the rear part of a brain, a little moved and changed."""

    def __init__(self, voxels, front):
        self.voxels = jnp.asarray(voxels)
        reach = CELL // 2 + SHIFT
        low, high = np.full(3, reach), np.array(voxels.shape) - reach
        middle = voxels.shape[1] // 2
        # A gap of two halves of a piece: no voxel is in a piece of either part.
        low[1], high[1] = (middle + reach, high[1]) if front else (low[1], middle - reach)
        grid = np.stack(np.meshgrid(*map(partial(np.arange, step=2), low, high), indexing="ij"), -1)
        places = grid.reshape(-1, 3)
        half = CELL // 2
        total = np.pad(voxels.cumsum(0).cumsum(1).cumsum(2), ((1, 0), (1, 0), (1, 0)))
        corners = np.zeros(len(places))
        for signs in np.ndindex(2, 2, 2):
            at = places - half + CELL * np.array(signs)
            corners += (-1) ** (3 - sum(signs)) * total[tuple(at.T)]
        self.places = jnp.asarray(places[corners / CELL**3 > LEAST])

    @partial(jax.jit, static_argnums=0)
    def views(self, places, key):
        """A view of each place [n 16 16 16 1]: shifted, brighter or darker, with noise."""
        shift, gain, noise = jax.random.split(key, 3)
        n = len(places)
        starts = places - CELL // 2 + jax.random.randint(shift, (n, 3), -SHIFT, SHIFT + 1)
        cut = lambda at: jax.lax.dynamic_slice(self.voxels, at, (CELL,) * 3)  # noqa: E731
        cubes = jax.vmap(cut)(starts)[..., None]
        cubes = cubes * jax.random.uniform(gain, (n, 1, 1, 1, 1), minval=0.8, maxval=1.2)
        return cubes + 0.02 * jax.random.normal(noise, cubes.shape)

    def draw(self, key, n):
        """Places that are at least a piece apart from each other, as far as there are enough."""
        order = np.asarray(jax.random.permutation(key, self.places))
        kept = order[:1]
        for place in order[1:]:
            if len(kept) == n:
                break
            if np.abs(kept - place).max(axis=1).min() >= CELL:
                kept = np.concatenate([kept, place[None]])
        return jnp.asarray(kept)


class Net(nnx.Module):
    """Volumes [b d h w 1] -> embeddings [b 32]: the mean over cells of 4 x 4 x 4 voxels."""

    def __init__(self, rngs):
        sizes = ((1, 16, 2), (16, 32, 2), (32, 32, 1))
        self.blocks = nnx.List(
            nnx.Sequential(
                nnx.Conv(inputs, outputs, (3, 3, 3), strides=stride, padding=1, rngs=rngs),
                nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs),
                nnx.relu,
            )
            for inputs, outputs, stride in sizes
        )

    def __call__(self, volumes):
        """Embed."""
        for block in self.blocks:
            volumes = block(volumes)
        return volumes.mean((1, 2, 3))


def nt_xent(a, b):
    """-log softmax of the cosine of two views of a place, among all other views."""
    z = fam_jax.normalize(jnp.concatenate([a, b]))
    n = len(a)
    logits = jnp.where(jnp.eye(2 * n, dtype=bool), -jnp.inf, z @ z.T / TEMPERATURE)
    return -jnp.mean(
        jax.nn.log_softmax(logits)[jnp.arange(2 * n), (jnp.arange(2 * n) + n) % (2 * n)]
    )


def train(pieces, steps, seed):
    model = Net(nnx.Rngs(seed))

    def loss(model, _, key):
        which, first, second = jax.random.split(key, 3)
        places = jax.random.choice(which, pieces.places, (BATCH,), replace=False)
        views = pieces.views(places, first), pieces.views(places, second)
        return nt_xent(*jnp.split(model(jnp.concatenate(views)), 2))

    descend(model, None, loss, steps, seed)
    return model


def mosaic(cubes):
    """Eight pieces [8 16 16 16 1] as one volume [32 32 32 1], two along each axis."""
    grid = cubes.reshape(2, 2, 2, CELL, CELL, CELL, 1).transpose(0, 3, 1, 4, 2, 5, 6)
    return grid.reshape(2 * CELL, 2 * CELL, 2 * CELL, 1)


def games(pieces, count, seed):
    """Mosaics [n 32 32 32 1] of eight pieces, references of one of them, its number."""
    rng = np.random.default_rng(seed)
    mosaics, references, right = [], [], rng.integers(8, size=count)
    for i in range(count):
        where, cells, one = jax.random.split(jax.random.fold_in(jax.random.key(seed), i), 3)
        places = pieces.draw(where, 8)
        mosaics.append(mosaic(pieces.views(places, cells)))
        references.append(pieces.views(places[right[i]][None], one)[0])
    return np.stack(mosaics), np.stack(references), right


def eighths(right, side):
    """Where the right cell is, booleans [n side side side]."""
    cells = np.arange(8).reshape(2, 2, 2).repeat(side // 2, 0).repeat(side // 2, 1)
    return cells.repeat(side // 2, 2)[None] == right[:, None, None, None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="mosaics")
    parser.add_argument("--out", type=Path, default=Path("volume"), help="folder of the figure")
    parser.add_argument("--quick", action="store_true", help="hardly trained, to see that it runs")
    options = parser.parse_args()
    steps, count = (4, 4) if options.quick else (STEPS, options.count)
    voxels = brain()
    seen, unseen = (Pieces(voxels, front) for front in (True, False))
    model = train(seen, steps, seed=0)
    encode = fam_jax.capture(model, at="blocks.2")

    background = encode(
        seen.views(seen.places[:: max(1, len(seen.places) // 64)], jax.random.key(1))
    )
    methods = {
        "contrastive": fam_jax.contrastive(background.embeddings),
        "decomposition": fam_jax.decomposition(),
        "fam": fam_jax.fam(),
        "grad_cam": fam_jax.grad_cam(),
        "nmf_concepts": fam_jax.nmf_concepts(),
        "activation_sum": fam_jax.activation_sum(),
    }
    mosaics, references, right = games(unseen, count, seed=2)
    table = Table(title=f"{count} mosaics of 8 pieces: mean (standard error), chance 0.125")
    for name in ("method", "mass", "pointing"):
        table.add_column(name)
    maps = {}
    for name, method in methods.items():
        out = fam_jax.explain_pairs(encode, mosaics, references, method)
        maps[name] = out.query_maps
        masks = jnp.asarray(eighths(right, out.query_maps.shape[1]))
        scores = energy_in(out.query_maps, masks), pointing(out.query_maps, masks)
        cells = (f"{np.mean(s):.2f} ({np.std(s) / np.sqrt(count):.2f})" for s in scores)
        table.add_row(name, *cells)
    Console().print(table)

    options.out.mkdir(parents=True, exist_ok=True)
    figure = fam_jax.plot.volume(
        mosaics[0, ..., 0],
        maps["contrastive"][0],
        title=f"Which eighth looks like the reference? Number {right[0]}, by contrastive",
    )
    figure.savefig(options.out / "volume.png")
    print(options.out / "volume.png")


if __name__ == "__main__":
    main()
