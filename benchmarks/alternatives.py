"""What could stand in the place of `contrastive`: other backgrounds, centred activations, norms.

    python benchmarks/alternatives.py --assets ASSETS --models MODELS [--only NETWORK ...] [--write]

All are M = sum_k pullback(v)_k A_k in the mosaic game of docs/evaluation.md; with unit vectors r
(reference), z (picture) and b_n (gallery), mu = mean_n b_n and C their covariance, v |z| is

    contrastive                r - mu
    no background              r
    one other, eight others    r - mean of the first of b_n
    eight nearest to r, to z   r - mean of the b_n nearest to it
    whitened                   (r - mu) (C + mean variance I)^-1
    norms free                 (r - mu) - <r - mu, z> z

and "centred" is contrastive's with A less its mean over positions. The second part asks for the
boxes of the localisation task with a background that knows nothing of them: other photographs.
Rows of networks that are not asked about stay as they stand.
"""

import argparse
from functools import partial
from itertools import product
from pathlib import Path

import evaluation
import jax
import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax import metrics
from fam_jax._core.similarity import normalize
from fam_jax.apps.network import open_network
from fam_jax.evaluate import tasks
from fam_jax.evaluate.cases import Batch
from fam_jax.evaluate.network import Network
from fam_jax.evaluate.tables import with_error

KEY = jax.random.key(0)
FEW = 8
NETWORKS, BOXED = (
    [*dict.fromkeys(run.split()[1] for run in evaluation.RUNS if run.startswith(task))]
    for task in ("mosaic", "localization")
)
# label -> the method, of a batch of the task and of embeddings of other photographs
METHODS = {
    "`fam`": lambda batch, others: fam_jax.fam(),
    "`decomposition`": lambda batch, others: fam_jax.decomposition(),
    "`contrastive`, places beside the boxes": lambda b, others: fam_jax.contrastive(b.background),
    "`contrastive`, other photographs": lambda batch, others: fam_jax.contrastive(others),
}


def network(options: str) -> Network:
    """What the options of `fam-jax evaluate` name."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--head", default="drop")
    parser.add_argument("--layer")
    parser.add_argument("--image-size", type=int)
    chosen, _ = parser.parse_known_args(options.split())  # the rest is the task's
    net = open_network(
        chosen.model,
        chosen.weights,
        chosen.head,
        chosen.layer,
        image_size=chosen.image_size,
    )
    return Network(net.backbone, net.encode, fam_jax.cosine)


def directions(z: np.ndarray, r: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """Variant -> v |z| for each picture, [n d], of unit vectors."""
    less = r - b.mean(0)
    _, spread, axes = np.linalg.svd(b - b.mean(0), full_matrices=False)  # C = axes' spread^2 axes
    damping = (spread**2).sum() / b.shape[1]
    shrunk = ((less @ axes.T) * spread**2 / (spread**2 + damping)) @ axes

    def nearest(x):
        return b[np.argsort(-(x @ b.T), axis=1)[:, :FEW]].mean(1)

    return {
        "contrastive": less,
        "no background": r,
        "one other": r - b[:1],
        "eight others": r - b[:FEW].mean(0),
        "eight nearest to r": r - nearest(r),
        "eight nearest to z": r - nearest(z),
        "whitened": less - shrunk,
        "norms free": less - (less * z).sum(1, keepdims=True) * z,
    }


@jax.jit
def maps(encode, images, v):
    """Decomposition along v, and the same with centred activations, [n h w] each."""
    enc = encode(images)
    G = enc.pullback(v)
    A = enc.activations
    return (G * A).sum(-1), (G * (A - A.mean((1, 2), keepdims=True))).sum(-1)


def measured(net: Network, batch: Batch) -> dict[str, dict[str, np.ndarray]]:
    """Measure -> variant -> a number per case."""
    z = np.asarray(net.encode(batch.images).embeddings)
    rng = np.random.default_rng(0)
    b = np.asarray(normalize(rng.permutation(batch.background)))
    unit_z, unit_r = (np.asarray(normalize(x)) for x in (z, batch.references))
    values = {"pointing": {}, "mass inside": {}}

    def keep(name, some):
        large = fam_jax.upsample(some, batch.masks.shape[1:])
        values["pointing"][name] = np.asarray(metrics.pointing(large, batch.masks))
        values["mass inside"][name] = np.asarray(metrics.energy_in(large, batch.masks))

    for name, v in directions(unit_z, unit_r, b).items():
        length = np.linalg.norm(z, axis=1, keepdims=True)
        plain, centred = maps(net.encode, batch.images, jnp.asarray(v / length, jnp.float32))
        keep(name, plain)
        if name == "contrastive":
            keep("centred", centred)
    return {
        measure: {k: np.float32(v[: len(batch)]) for k, v in row.items()}
        for measure, row in values.items()
    }


def cells(values: dict[str, np.ndarray]) -> list[str]:
    """The mean of `contrastive`, then paired differences from it."""
    base = values["contrastive"]
    found = [
        metrics.paired_difference(v, base, KEY) for k, v in values.items() if k != "contrastive"
    ]
    differences = [with_error(float(each.mean), float(each.error), sign="+") for each in found]
    return [f"{base.mean():.3f}", *differences]


def boxes(name: str, assets: Path) -> dict[tuple[str, str], list[str]]:
    """Localisation with the task's own background and with photographs of other things.

    A row for each network and method.
    """
    options = f"{evaluation.NETWORKS[name]} {evaluation.RUNS[f'localization {name}']}"
    net = network(options.format(assets=assets))
    raccoons = tasks.Options(str(assets / "images" / "raccoon"))
    cases = tasks.build("localization", net, raccoons)
    others = tasks.build("retrieval", net, tasks.Options("photographs")).batches[0].background
    rows = {}
    for label, method in METHODS.items():
        parts = []
        for batch in cases.batches:
            some = method(batch, others)(net.encode(batch.images), batch.references)
            large, n = fam_jax.upsample(some, batch.masks.shape[1:]), len(batch)
            measures = (metrics.pointing, metrics.energy_in, partial(metrics.iou, threshold=0.5))
            parts.append(np.stack([np.float32(m(large, batch.masks))[:n] for m in measures]))
        means = [metrics.mean_and_error(column, KEY) for column in np.concatenate(parts, axis=1)]
        rows[name, label] = [with_error(float(f.mean), float(f.error)) for f in means]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="fill in the documents' tables")
    parser.add_argument("--only", nargs="*", default=NETWORKS, help="networks; all without it")
    options = parser.parse_args()
    tables = {}  # measure -> headings, and rows by the cells they begin with
    for name in (name for name in NETWORKS if name in options.only):
        places = {"assets": options.assets, "models": options.models}
        net = network(evaluation.NETWORKS[name].format(**places))
        cases = tasks.build("mosaic", net, tasks.Options("photographs", cases=options.cases))
        parts = [measured(net, batch) for batch in cases.batches]
        for measure in parts[0]:
            joined = {k: np.concatenate([p[measure][k] for p in parts]) for k in parts[0][measure]}
            _, rows = tables.setdefault(measure, ((measure, *joined), {}))
            rows[name,] = cells(joined)
            print(measure, name, *rows[name,], sep=" | ", flush=True)
    boxed = [boxes(name, options.assets) for name in BOXED if name in options.only]
    if boxed:
        heads = ("network", "method", "pointing", "mass inside", "IoU at 0.5")
        tables["boxes"] = heads, {key: row for rows in boxed for key, row in rows.items()}
        print(*tables["boxes"][1].items(), sep="\n")
    for measure, (heads, rows) in tables.items():
        order = list(product(BOXED, METHODS)) if measure == "boxes" else [(n,) for n in NETWORKS]
        if options.write:
            evaluation.put(f"alternatives, {measure}", heads, rows, order)


if __name__ == "__main__":
    main()
