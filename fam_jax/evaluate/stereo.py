"""The stereo pair: does a point's map over the other image find the same point?

Scikit-image carries a rectified pair of photographs of a motorcycle with the true disparity
(Middlebury 2014): the point (row, column) of the left image is at (row, column - disparity) of
the right one. Of every cell of the left map, the cell of the right map that shares most with it is
taken, and its distance from the truth is measured in pixels.
"""

from collections.abc import Callable, Mapping
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
    """The pair as a network sees it, uint8 [H W c] each; rows and columns of cells, in pixels."""

    left: np.ndarray
    right: np.ndarray
    centres: Float[np.ndarray, "h w 2"]  # of the left map
    truth: Float[np.ndarray, "h w 2"]  # where these are in the right image
    known: Bool[np.ndarray, "h w"]  # whether that is known and inside the image


def load(network: Network) -> Stereo:
    """The pair in the network's size, and the truth at the cells of its map."""
    with needed("the stereo pair needs", "demo"):
        import skimage.data
    folder = Path(skimage.data.__file__).parent
    images = [Image.open(folder / f"motorcycle_{side}.png") for side in ("left", "right")]
    with np.load(folder / "motorcycle_disp.npz") as file:
        disparity = file["arr_0"]
    x0, y0, x1, y1 = network.backbone.preprocess.region(images[0].size)
    (H, W), (rows, columns) = network.size, network.grid()
    across, down = W / (x1 - x0), H / (y1 - y0)  # pixels of the network's per pixel of the file
    ways = (np.arange(rows) + 0.5) * H / rows, (np.arange(columns) + 0.5) * W / columns
    y, x = np.meshgrid(*ways, indexing="ij")
    shift = disparity[np.int64(y / down + y0), np.int64(x / across + x0)].astype(np.float64)
    known = np.isfinite(shift)
    there = x - np.where(known, shift, 0) * across
    known &= (there >= 0) & (there < W)
    truth = np.stack([y, there], axis=-1).astype(np.float32)
    left, right = network.views(images)
    return Stereo(left, right, np.stack([y, x], axis=-1), truth, known)


def matches(a: fam_jax.Encoding, b: fam_jax.Encoding) -> dict[str, Array]:
    """Method -> what every cell of the one map shares with every cell of the other, [1 h w h w]."""
    h, w = a.activations.shape[1:3]
    shares = fam_jax.position_pairs(a, b)
    unit = normalize(a.activations), normalize(b.activations)
    return {
        "anywhere": jax.random.uniform(jax.random.key(0), (1, h, w, h, w)),
        "same place": jnp.eye(h * w).reshape(1, h, w, h, w),
        # Cosines of all activation vectors: matching that asks nothing of the embedding.
        "nearest activation": jnp.einsum(
            "bijk,bxyk->bijxy", *unit, precision=jax.lax.Precision.HIGHEST
        ),
        "point-to-point": shares,
        "point-to-point, centred": fam_jax.centred(shares),
    }


def errors(pair: Stereo, shares: Mapping[str, Array]) -> dict[str, dict[str, np.ndarray]]:
    """Method -> measure -> the error of every known cell, in pixels of what the network sees.

    "in the row" looks only along the row where the truth is, as rectification allows.
    """
    same_row = jnp.eye(len(pair.centres), dtype=bool)[None, :, None, :, None]

    def distances(shares: Array) -> np.ndarray:
        best = np.asarray(fam_jax.correspondences(shares))[0]
        there = pair.centres[best[..., 0], best[..., 1]]
        return np.linalg.norm(there - pair.truth, axis=-1)[pair.known].astype(np.float32)

    return {
        name: {
            "error": distances(some),
            # One less than the least share: never the largest of a row that has any.
            "error in the row": distances(jnp.where(same_row, some, jnp.min(some) - 1)),
        }
        for name, some in shares.items()
    }


def run(
    network: Network,
    folder: Path,
    settings: dict[str, Any],
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write table, figure and manifest of the stereo pair; its `means` and `files`."""
    with files.folder(folder, overwrite=overwrite) as stage:
        pair = load(network)
        left, right = (network.encode(network.prepare(x[None])) for x in pair[:2])
        shares = matches(left, right)
        means = tables.means(errors(pair, shares))
        rows, columns = network.grid()
        parts = [
            f"# {settings['model']}, stereo",
            f"Layer {network.encode.at}, maps of {rows} x {columns}, a cell "
            f"{network.size[1] / columns:.0f} of {network.size[1]} pixels wide. "
            f"{int(pair.known.sum())} of {pair.known.size} cells have a known counterpart.",
            "Mean distance in pixels ± bootstrap standard error over the cells (which are not "
            "independent).",
            tables.markdown(means),
        ]
        text = "\n\n".join(parts)
        (stage / "table.md").write_text(text + "\n")
        images = [Image.fromarray(np.squeeze(x)).convert("RGB") for x in pair[:2]]
        figure = plot.points_figure(images[0], images[1], shares["point-to-point, centred"][0])
        figure.savefig(stage / "points.png")
        written = files.write_manifest(stage, command="evaluate", **settings)
    for line in text.splitlines():
        say(line)
    return {"means": means, "files": written}
