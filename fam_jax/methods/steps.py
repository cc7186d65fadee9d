"""LOTS: the picture is changed step by step to be less alike, or more; the map is what changed.

x' <- x' -+ rate grad s / max |grad s|
M  = Gauss(|grey(x') - grey(x)|)
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fam_jax._core.checks import check_count
from fam_jax._core.encoder import as_embedding
from fam_jax._core.encoding import Encoding
from fam_jax._core.mesh import vary_with
from fam_jax._core.pytree import register_dataclass
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
    apart. FAME shows `rescale(maps)`.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own; its true gradient.
        toward: climb the similarity instead of descending it.
        steps: FAME reports 500 and finds 75 to 200 to be enough.
        rate: how far the strongest pixel moves in a step, in the images' units; FAME's 1 / 255
            is of normalised images, too. For steps in grey levels pass pixels in [0, 1] to an
            encoder that normalises them.
        kernel: side of the Gaussian in pixels, odd; its sigma is 0.15 kernel + 0.35 (7.7 for 49,
            which suits images of 224). 1 leaves the change as it is. Images are reflected at
            their edges.

    Returns:
        A `Method` that needs the images: raw maps [b, H, W], not negative, in the images' units.
        Grey is 0.2989 red + 0.587 green + 0.114 blue of three channels, else their mean.

    Raises:
        ValueError, TypeError: for arguments of other types or values.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda x: x.reshape(len(x), -1))
        >>> method = fam_jax.lots(fam_jax.dot, steps=3, rate=1.0, kernel=1)
        >>> image, reference = jnp.ones((1, 1, 2, 1)), jnp.array([[4.0, -2.0]])
        >>> fam_jax.explain(encode, image, reference, method).maps.tolist()
        [[[3.0, 1.5]]]

    Source:
        Zhang, Günther: FAME, arXiv 2605.12017, with github.com/AIML-IfI/fame; the steps from
        Rozsa, Günther, Boult: LOTS about Attacking Deep Features, IJCB 2017.
    """
    check_count("steps", steps)
    check_count("kernel", kernel)
    if kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number of pixels, got {kernel}")
    signed = rate if toward else -rate
    return Method(similarity, _Lots(float(signed), steps, kernel), IMAGES)


@partial(register_dataclass, data_fields=[], meta_fields=["rate", "steps", "kernel"])
@dataclass(frozen=True)
class _Lots:
    rate: float
    steps: int
    kernel: int

    def __call__(self, similarity: Similarity, enc: Encoding, references: Array) -> Array:
        images, embed = enc.images, as_embedding(enc.encoder)
        dtype = wide_dtype(images, references)
        x = images.astype(dtype)
        changed = walk(embed, similarity, images, references, self.rate, self.steps)
        luma = _LUMA if x.shape[3] == 3 else np.full(x.shape[3], 1 / x.shape[3])
        grey = jnp.sum((changed - x) * jnp.asarray(luma, dtype)[None, None, None], axis=3)
        down, across = (jnp.asarray(_gaussian(side, self.kernel), dtype) for side in x.shape[1:3])
        highest = jax.lax.Precision.HIGHEST
        return jnp.einsum("yh,bhw,xw->byx", down, jnp.abs(grey), across, precision=highest)


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
