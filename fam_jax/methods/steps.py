"""LOTS: the picture is changed step by step to be less alike, or more; the map is what changed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fam_jax._core.checks import check_count, check_float
from fam_jax._core.encoder import as_embedding
from fam_jax._core.mesh import vary_with
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.method import Method
from fam_jax.methods.perturbation import IMAGES, score_copies, wide_dtype

_LUMA = (0.2989, 0.587, 0.114)  # of red, green, blue, as torchvision weighs them


def lots(
    similarity: Similarity = cosine,
    *,
    toward: bool = False,
    steps: int = 75,
    rate: float = 1 / 255,
    kernel: int = 49,
) -> Method:
    """Where a picture has to change to become less alike (or, `toward`, more): FAME's maps.

        x' <- x' - rate grad s / max |grad s|    `steps` times (+ with `toward`)
        M = Gauss(|grey(x') - grey(x)|)

    Away from the reference, the map shows what makes the pair alike; toward it, what keeps it
    apart. Never negative, in the images' units; s has its true gradient, grey is 0.2989 red +
    0.587 green + 0.114 blue of three channels, else their mean. FAME shows `rescale(maps)`.

    Args:
        toward: climb the similarity instead of descending it.
        steps: FAME reports 500 and finds 75 to 200 to be enough.
        rate: how far the strongest pixel moves in a step, in the images' units; FAME's 1 / 255 is
            of normalised images, too. For grey levels let the encoder normalise images in [0, 1].
        kernel: side of the Gaussian in pixels, odd; its sigma is 0.15 kernel + 0.35 (7.7 for 49,
            which suits images of 224). 1 leaves the change as it is. Edges are reflected.
        similarity: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda x: x.reshape(len(x), -1))
        >>> method = fam_jax.lots(fam_jax.dot, steps=3, rate=1.0, kernel=1)
        >>> image, reference = jnp.ones((1, 1, 2, 1)), jnp.array([[4.0, -2.0]])
        >>> fam_jax.explain(encode, image, reference, method).maps.tolist()
        [[[3.0, 1.5]]]

    Source: Zhang, Günther: FAME, arXiv 2605.12017; the steps from Rozsa et al.: LOTS, IJCB 2017.
    """
    check_count("steps", steps)
    check_count("kernel", kernel)
    if kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number of pixels, got {kernel}")
    rate = float(rate if toward else -rate)
    return Method(similarity, partial(_lots, rate=rate, steps=steps, kernel=kernel), IMAGES)


def _lots(similarity, enc, references, *, rate, steps, kernel):
    check_float("images: lots is of pictures", enc.images, "batch height width channels")
    images, dtype = enc.images, wide_dtype(enc.images, references)
    changed = walk(as_embedding(enc.encoder), similarity, images, references, rate, steps)
    height, width, channels = images.shape[1:]
    luma = _LUMA if channels == 3 else np.full(channels, 1 / channels)
    change = (changed - images.astype(dtype)) * jnp.asarray(luma, dtype)[None, None, None]
    down, across = (jnp.asarray(_gaussian(side, kernel), dtype) for side in (height, width))
    grey = jnp.abs(jnp.sum(change, axis=3))
    return jnp.einsum("yh,bhw,xw->byx", down, grey, across, precision="highest")


def walk(embed, similarity, images, references, rate, steps):
    """The images after `steps` of LOTS, up the similarity for a positive rate, in the wide type."""

    def score(x):
        # The steps are added up in the wide type: in bfloat16 small ones would be lost.
        copies = x[:, None].astype(images.dtype)
        return jnp.sum(score_copies(embed, similarity, copies, references))

    def step(x, _):
        gradient = jax.grad(score)(x)
        largest = jnp.max(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True)
        return x + rate * (gradient / jnp.where(largest > 0, largest, 1)), None

    start = vary_with(images.astype(wide_dtype(images, references)), references)
    return jax.lax.scan(step, start, length=steps)[0]


def _gaussian(side: int, kernel: int) -> np.ndarray:
    """The matrix [side, side] that smooths an axis, its edges reflected."""
    reach = kernel // 2
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / (0.15 * kernel + 0.35)) ** 2)
    source = np.pad(np.arange(side), reach, mode="reflect")
    matrix = np.zeros((side, side))
    for offset, weight in zip(offsets + reach, weights / weights.sum(), strict=True):
        matrix[np.arange(side), source[offset : offset + side]] += weight
    return matrix
