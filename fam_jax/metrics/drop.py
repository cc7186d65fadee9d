"""Average drop, increase, coherency and complexity: what is left of a score on the map alone.

A map that is high everywhere never drops, which is why coherency and complexity go with it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.axes import map_axes
from fam_jax._core.checks import AnyArray, check_float, wide
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax._core.maps import rescale, upsample
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.metrics._arguments import IMAGES, MAPS, check_case, check_rank, nan_unless_finite


def masked_scores(
    embed: Callable,
    images: Float[AnyArray, "b *size c"],
    references: Float[AnyArray, "b d"],
    maps: Float[AnyArray, "b *space"],
    similarity: Similarity = cosine,
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """The score of every image, and of the image times its map: (s, s_M).

        s = score(z(x), r),   s_M = score(z(x * M), r),   M upsampled and rescaled to [0, 1]

    The product is with preprocessed images, where 0 usually is the mean colour of a data set.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import masked_scores
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image, map = jnp.array([[[[3.0], [4.0]]]]), jnp.array([[[1.0, 0.0]]])
        >>> s, s_map = masked_scores(embed, image, jnp.array([[1.0, 0.0]]), map)
        >>> round(float(s[0]), 2), round(float(s_map[0]), 2)
        (0.6, 1.0)
    """
    return _masked_scores(*check_case(embed, images, references, maps, similarity))


@jax.jit
def _masked_scores(embed, images, references, maps, similarity):
    images, references = jnp.asarray(images), jnp.asarray(references)
    score = similarity.score(embed(images), references)
    masked = similarity.score(embed(_only(images, maps)), references)
    return score, nan_unless_finite(masked, maps)


def _only(images, maps):
    """The images times their rescaled maps."""
    large = upsample(maps, images.shape[1:-1])
    x, M = wide(images, rescale(large, axes=map_axes(large)))
    return (x * M[..., None]).astype(images.dtype)


def average_drop(
    embed: Callable,
    images: Float[AnyArray, "b *size c"],
    references: Float[AnyArray, "b d"],
    maps: Float[AnyArray, "b *space"],
    similarity: Similarity = cosine,
) -> Float[Array, " b"]:
    """The part of every score that is lost where only the map's region is shown; small is good.

        max(0, s - s_M) / s   where s > 0, else 0

    The published average is over the images with s > 0: leave the others out by
    `jnp.mean(drop, where=s > 0)`, s being the first of `masked_scores`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import average_drop
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image, map = jnp.array([[[[3.0], [4.0]]]]), jnp.array([[[1.0, 0.0]]])
        >>> average_drop(embed, image, jnp.array([[0.0, 1.0]]), map).tolist()
        [1.0]

    Source: Chattopadhay et al.: Grad-CAM++, WACV 2018.
    """
    s, masked = masked_scores(embed, images, references, maps, similarity)
    drop = jnp.maximum(s - masked, 0) / jnp.where(s > 0, s, 1)
    return jnp.where((s > 0) | jnp.isnan(masked), drop, 0)


def increase(
    embed: Callable,
    images: Float[AnyArray, "b *size c"],
    references: Float[AnyArray, "b d"],
    maps: Float[AnyArray, "b *space"],
    similarity: Similarity = cosine,
) -> Float[Array, " b"]:
    """Whether the map's region alone scores higher than the image: 1[s_M > s]; high is good.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import increase
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image, map = jnp.array([[[[3.0], [4.0]]]]), jnp.array([[[1.0, 0.0]]])
        >>> increase(embed, image, jnp.array([[1.0, 0.0]]), map).tolist()
        [1.0]

    Source: Chattopadhay et al.: Grad-CAM++, WACV 2018.
    """
    s, masked = masked_scores(embed, images, references, maps, similarity)
    return jnp.where(jnp.isnan(masked), masked, (masked > s).astype(s.dtype))


def coherency(explain: Callable, images: Float[AnyArray, "b *size c"]) -> Float[Array, " b"]:
    """Whether the map of what a map shows is the same map.

        (Pearson(M(x * M(x)), M(x)) + 1) / 2   the inner map rescaled to [0, 1]

    0.5 (no correlation) where a map is constant.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import coherency
        >>> images = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> coherency(lambda images: (images > 1).astype(jnp.float32)[..., 0], images).tolist()
        [1.0]

    Source: Poppi et al., CVPR workshops 2021 (arXiv 2104.10252).
    """
    check_float("images", images, IMAGES)
    return _coherency(as_explanation(explain), images)


@jax.jit
def _coherency(explain, images):
    images = jnp.asarray(images)
    maps = maps_of(explain, images)
    again = maps_of(explain, _only(images, maps))
    return nan_unless_finite((pearson(maps, again) + 1) / 2, maps, again)


def as_explanation(explain: Callable) -> Callable:
    """The function images -> maps as a pytree."""
    if not callable(explain):
        raise TypeError(
            f"explain: expected a function images -> maps, got {type(explain).__name__}"
        )
    return as_pytree(explain)


def maps_of(explain: Callable, images: Array) -> Array:
    """Maps [b, *space], at least float32; an error if the function gives something else."""
    maps = explain(images)
    check_float("explain(images)", maps, MAPS)
    check_rank("images", images, **{"explain(images)": maps})
    if maps.shape[0] != images.shape[0]:
        raise ValueError(f"explain: {images.shape[0]} images gave maps of shape {maps.shape}")
    return wide(maps)[0]


def pearson(a: Array, b: Array) -> Array:
    """The correlation of every two maps, [b]; 0 where one of them is constant."""
    a, b = (_centred(x.reshape(x.shape[0], -1)) for x in wide(a, b))
    return jnp.clip(cosine.score(a, b), -1, 1)


def _centred(x: Array) -> Array:
    """Rescaled, less the mean; zeros where it is constant up to rounding."""
    largest = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    x = x / jnp.where(largest == 0, 1, largest)
    flat = jnp.ptp(x, axis=1, keepdims=True) <= 8 * jnp.finfo(x.dtype).eps
    return jnp.where(flat, 0, x - jnp.mean(x, axis=1, keepdims=True))


def complexity(maps: Float[AnyArray, "b *space"]) -> Float[Array, " b"]:
    """How much of the image a map takes: the mean of the map rescaled to [0, 1]; small is good.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import complexity
        >>> complexity(jnp.array([[[3.0, 1.0], [1.0, 1.0]]])).tolist()
        [0.25]

    Source: Poppi et al., CVPR workshops 2021 (arXiv 2104.10252).
    """
    check_float("maps", maps, MAPS)
    return nan_unless_finite(
        jnp.mean(rescale(maps, axes=map_axes(maps)), axis=map_axes(maps)), maps
    )
