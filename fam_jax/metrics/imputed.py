"""ROAD, remove and debias: deletion where what is removed is imputed, and leaves no outline."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_choice, check_count, check_float, wide
from fam_jax._core.chunks import map_chunks
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.perturbation import score_copies
from fam_jax.metrics._arguments import PICTURES, check_case, nan_unless_finite
from fam_jax.metrics._impute import imputed
from fam_jax.metrics._pixels import ORDERS, pixel_ranks

PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)


def road(
    embed: Callable,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    maps: Float[AnyArray, "b h w"],
    key: Array,
    similarity: Similarity = cosine,
    *,
    percentiles: tuple[float | int, ...] = PERCENTILES,
    order: str = "most",
    noise: float | int = 0.01,
    chunk: int = 8,
) -> Float[Array, "b p"]:
    """The similarity after removing the pixels above a percentile of the map, by imputation.

        removed pixels = the means of their neighbours (1/6 direct, 1/12 diagonal) + noise

    The means are of known and removed pixels alike: a linear system for each image. Pixels are
    ranked as in `deletion`; at percentile p, (100 - p) % are removed.

    Args:
        percentiles: above 0 and up to 100.
        noise: its standard deviation, in units of the preprocessed images.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import road
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image, reference = jnp.array([[[[0.0], [3.0], [4.0]]]]), jnp.array([[0.0, 1.0, 0.0]])
        >>> maps = jnp.array([[[0.0, 2.0, 1.0]]])  # the middle becomes (0 + 4) / 2
        >>> out = road(embed, image, reference, maps, jax.random.key(0), percentiles=(90,), noise=0)
        >>> round(float(out[0, 0]), 3)  # 2 / sqrt(0 + 4 + 16)
        0.447

    Source: Rong et al.: A Consistent and Efficient Evaluation Strategy for Attribution Methods,
    ICML 2022 (arXiv 2202.00449).
    """
    check_float("images", images, PICTURES)
    case = check_case(embed, images, references, maps, similarity)
    check_choice("order", order, ORDERS)
    options = _check(percentiles, noise, chunk)
    return _road(case, key, float(noise), order=order, **options)


def road_combined(
    embed: Callable,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    maps: Float[AnyArray, "b h w"],
    key: Array,
    similarity: Similarity = cosine,
    *,
    percentiles: tuple[float | int, ...] = PERCENTILES,
    noise: float | int = 0.01,
    chunk: int = 8,
) -> Float[Array, " b"]:
    """ROAD in one number: half of what least relevant first keeps over most relevant first.

        mean_p (road(order="least") - road(order="most")) / 2

    0 for a constant map; the larger the better.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import road_combined
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> images = jnp.arange(9.0).reshape(1, 3, 3, 1)
        >>> maps, key = jnp.ones((1, 3, 3)), jax.random.key(0)
        >>> road_combined(embed, images, embed(images), maps, key).tolist()
        [0.0]

    Source: The pytorch-grad-cam package's ROADCombined, on the method of arXiv 2202.00449.
    """
    check_float("images", images, PICTURES)
    case = check_case(embed, images, references, maps, similarity)
    options = _check(percentiles, noise, chunk)
    return _combined(case, key, float(noise), **options)


def _check(percentiles, noise, chunk):
    check_count("chunk", chunk)
    if not len(percentiles) or not all(0 < p <= 100 for p in percentiles):
        raise ValueError(f"percentiles: expected numbers above 0 and up to 100, got {percentiles}")
    if not noise >= 0:
        raise ValueError(f"noise: expected 0 or more, got {noise}")
    return {"percentiles": tuple(percentiles), "chunk": chunk}


def _removed_at(percentiles: tuple[float | int, ...], pixels: int) -> np.ndarray:
    """How many of a map's distinct values are at or above each percentile, interpolated."""
    kept = [math.ceil((pixels - 1) * Fraction(str(p)) / 100) for p in percentiles]
    return pixels - np.array(kept, np.int32)


@partial(jax.jit, static_argnames=("percentiles", "order", "chunk"))
def _road(case, key, noise, *, percentiles, order, chunk):
    embed, images, references, maps, similarity = case
    images, references = jnp.asarray(images), jnp.asarray(references)
    height, width = images.shape[1:3]
    ranks = pixel_ranks(maps, (height, width), order)
    counts = jnp.asarray(_removed_at(percentiles, height * width))

    def draw(k):
        own = jax.random.fold_in(key, k)
        return jax.random.normal(own, images.shape[1:], wide(images)[0].dtype)

    def scores(k):
        removed = ranks[:, None] < counts[k][None, :, None, None]
        times = (images.shape[0], k.shape[0], *images.shape[1:])
        filled = imputed(jnp.broadcast_to(images[:, None], times), removed)
        spread = jnp.asarray(noise, filled.dtype) * jax.vmap(draw)(k)[None]
        noisy = jnp.where(removed[..., None], filled + spread, filled).astype(images.dtype)
        return score_copies(embed, similarity, noisy, references)

    values = map_chunks(scores, np.arange(len(percentiles), dtype=np.int32), chunk, axis=1)
    return nan_unless_finite(values, maps)


@partial(jax.jit, static_argnames=("percentiles", "chunk"))
def _combined(case, key, noise, **options):
    least, most = (_road(case, key, noise, order=order, **options) for order in ("least", "most"))
    return jnp.mean(least - most, axis=1) / 2
