"""The stereo pair: does a point's map over the other image find the same point?

Scikit-image carries a rectified pair of photographs of a motorcycle with the true disparity
(Middlebury 2014): the point (row, column) of the left image is at (row, column - disparity) of
the right one. Of every cell of the left map, the cell of the right map that shares most with it is
taken, and its distance from the truth is measured in pixels.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from PIL import Image

import fam_jax
from fam_jax import plot
from fam_jax._core.extras import needed
from fam_jax._core.similarity import normalize
from fam_jax.evaluate import tables
from fam_jax.evaluate.network import Network
from fam_jax.io import files


class Stereo(NamedTuple):
    """The pair as a network sees it.

    Attributes:
        left: its pixels, uint8 [H W c].
        right: the other image's.
        truth: for every cell of the left map, where it is in the right image: row and column in
            pixels, [h w 2].
        known: whether that is known and inside the image, [h w].
    """

    left: np.ndarray
    right: np.ndarray
    truth: Float[np.ndarray, "h w 2"]
    known: Bool[np.ndarray, "h w"]


def load(network: Network) -> Stereo:
    """The pair in the network's size, and the truth at the cells of its map.

    Raises:
        ImportError: scikit-image is missing.
    """
    with needed("the stereo pair needs", "demo"):
        import skimage.data
    folder = Path(skimage.data.__file__).parent
    left, right = (Image.open(folder / f"motorcycle_{side}.png") for side in ("left", "right"))
    with np.load(folder / "motorcycle_disp.npz") as file:
        disparity = file["arr_0"]
    x0, y0, x1, y1 = network.backbone.preprocess.region(left.size)
    (H, W), (rows, columns) = network.size, network.grid()
    across, down = W / (x1 - x0), H / (y1 - y0)  # pixels of the network's per pixel of the file
    y, x = _centres(rows, columns, (H, W))
    at = np.floor(y / down + y0).astype(int), np.floor(x / across + x0).astype(int)
    shift = disparity[at].astype(np.float64)
    known = np.isfinite(shift)
    there = x - np.where(known, shift, 0) * across
    known &= (there >= 0) & (there < W)
    truth = np.stack([y, there], axis=-1).astype(np.float32)
    return Stereo(network.view(left), network.view(right), truth, known)


def _centres(rows: int, columns: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in pixels of the centre of every cell, [rows, columns] each."""
    y = (np.arange(rows) + 0.5) * size[0] / rows
    x = (np.arange(columns) + 0.5) * size[1] / columns
    return np.meshgrid(y, x, indexing="ij")


def _nearest(a: fam_jax.Encoding, b: fam_jax.Encoding) -> Array:
    """Cosines of all activation vectors: matching that asks nothing of the embedding."""
    unit = normalize(a.activations), normalize(b.activations)
    return jnp.einsum("bijk,bxyk->bijxy", *unit, precision=jax.lax.Precision.HIGHEST)


def _same_place(a: fam_jax.Encoding, b: fam_jax.Encoding) -> Array:
    h, w = a.activations.shape[1:3]
    return jnp.eye(h * w).reshape(1, h, w, h, w)


def _anywhere(a: fam_jax.Encoding, b: fam_jax.Encoding) -> Array:
    h, w = a.activations.shape[1:3]
    return jax.random.uniform(jax.random.key(0), (1, h, w, h, w))


MATCHES: dict[str, Callable[[fam_jax.Encoding, fam_jax.Encoding], Array]] = {
    "anywhere": _anywhere,
    "same place": _same_place,
    "nearest activation": _nearest,
    "point-to-point": fam_jax.position_pairs,
    "point-to-point, centred": lambda a, b: fam_jax.centred(fam_jax.position_pairs(a, b)),
}


def encodings(network: Network, pair: Stereo) -> tuple[fam_jax.Encoding, fam_jax.Encoding]:
    """Of the left and the right image."""
    left, right = (network.encode(network.prepare(x[None])) for x in (pair.left, pair.right))
    return left, right


def errors(
    network: Network, pair: Stereo, left: fam_jax.Encoding, right: fam_jax.Encoding
) -> dict[str, dict[str, np.ndarray]]:
    """Method -> measure -> the error of every known cell, in pixels of what the network sees.

    "in the row" looks only along the row where the truth is, as rectification allows.
    """
    y, x = _centres(*network.grid(), network.size)
    row = np.arange(len(y))
    same_row = jnp.asarray(row[:, None] == row)[None, :, None, :, None]
    found = {}
    for name, match in MATCHES.items():
        shares = match(left, right)
        # One less than the least share: never the largest of a row that has any.
        lowest = jnp.min(shares) - 1
        found[name] = {
            "error": _distances(shares, y, x, pair),
            "error in the row": _distances(jnp.where(same_row, shares, lowest), y, x, pair),
        }
    return found


def _distances(shares: Array, y: np.ndarray, x: np.ndarray, pair: Stereo) -> np.ndarray:
    best = np.asarray(fam_jax.correspondences(shares))[0]
    there = np.stack([y[best[..., 0], best[..., 1]], x[best[..., 0], best[..., 1]]], axis=-1)
    return np.linalg.norm(there - pair.truth, axis=-1)[pair.known].astype(np.float32)


def run(network: Network, folder: Path, settings: dict[str, Any], *, overwrite: bool) -> str:
    """Write the table, the figure and the manifest of the stereo pair; returns the table."""
    with files.folder(folder, overwrite=overwrite) as stage:
        pair = load(network)
        left, right = encodings(network, pair)
        rows, columns = network.grid()
        text = "\n\n".join(
            [
                f"# {settings['model']}, stereo",
                f"Layer {network.layer}, maps of {rows} x {columns}, a cell "
                f"{network.size[1] / columns:.0f} of {network.size[1]} pixels wide. "
                f"{int(pair.known.sum())} of {pair.known.size} cells have a known counterpart.",
                "Mean distance in pixels ± bootstrap standard error over the cells (which are not "
                "independent).",
                tables.markdown(tables.means(errors(network, pair, left, right))),
            ]
        )
        (stage / "table.md").write_text(text + "\n")
        shares = fam_jax.centred(fam_jax.position_pairs(left, right))[0]
        seen, other = (Image.fromarray(np.squeeze(x)).convert("RGB") for x in pair[:2])
        plot.points_figure(seen, other, shares).savefig(stage / "points.png")
        files.write_manifest(stage, command="evaluate", **settings)
    return text
