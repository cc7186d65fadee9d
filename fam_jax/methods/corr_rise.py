"""CorrRISE: at each pixel, the correlation of being visible with the similarity.

M_x = corr_i(m_i(x), s_i),   s_i = score of the image times mask m_i
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_count, check_key
from fam_jax._core.encoding import as_embedding
from fam_jax._core.mesh import vary_with
from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.methods.perturbation import (
    check_pairs,
    fold,
    masked,
    sayable_maps,
    score_copies,
    weighted_masks,
    wide_dtype,
)


def corr_rise(
    embed: Callable,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    key: Array,
    similarity: Similarity = cosine,
    *,
    masks: int = 500,
    patches: int = 3,
    patch: int | None = None,
    chunk: int = 16,
) -> Float[Array, "b H W"]:
    """Pearson's correlation between a pixel's visibility and the similarity, over random masks.

        M_x = corr_i(m_i(x), score(z(x * m_i), r))

    A mask is 0 in square patches at random places and 1 elsewhere. Positive: showing the pixel
    makes the pair more alike; negative: less. The reference's image stays whole; for its own map
    exchange the roles.

    Args:
        embed: images [b, H, W, c] -> embeddings [b, d], or an encoder.
        images: preprocessed images.
        references: an embedding for each image.
        key: a `jax.random.key`; every image sees the same masks, alone as in a batch.
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        masks: how many.
        patches: in each mask; they may overlap, and lie inside the image.
        patch: a patch's side in pixels; 30 for each 112 of the image's shorter side if not given.
        chunk: masked copies of the whole batch that are embedded at a time; memory does not grow
            with `masks`.

    Returns:
        Raw maps [b, H, W] in [-1, 1]; 0 for a pixel that was always or never visible.

    Raises:
        ValueError, TypeError: for arguments of other shapes, types or values.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> image = jnp.array([[[[1.0], [0.0]], [[0.0], [0.0]]]])  # one pixel is all there is
        >>> mean, reference = lambda images: images.mean((1, 2)), jnp.ones((1, 1))
        >>> key = jax.random.key(0)
        >>> maps = fam_jax.corr_rise(mean, image, reference, key, fam_jax.dot, masks=20, patches=1)
        >>> maps[0, 0, 0].round(3).item()
        1.0

    Source:
        Lu, Xu, Ebrahimi: Towards Visual Saliency Explanations of Face Verification, WACV 2024
        (arXiv 2305.08546); numbers of masks and patches from the comparison in
        github.com/AIML-IfI/fame, which correlates the scores' ranks instead.
    """
    check_pairs(images, references)
    check_key(key)
    for name, value in {"masks": masks, "patches": patches, "chunk": chunk}.items():
        check_count(name, value)
    shorter = min(images.shape[1:3])
    patch = max(1, round(shorter * 30 / 112)) if patch is None else patch
    check_count("patch", patch, shorter)
    similarity = as_similarity(similarity)
    return _corr_rise(
        as_embedding(embed), images, references, key, similarity,
        masks=masks, patches=patches, patch=patch, chunk=chunk,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("masks", "patches", "patch", "chunk"))
def _corr_rise(embed, images, references, key, similarity, *, masks, patches, patch, chunk):
    b, size, dtype = images.shape[0], images.shape[1:3], wide_dtype(images, references)

    def add(carry, indices, valid):
        m = patch_masks(key, indices, size, patches, patch)
        s = score_copies(embed, similarity, masked(images, m), references)
        return _merge(carry, _moments(s, m.astype(dtype), valid.astype(dtype))), None

    shapes = (), (b,), size, (b,), size, (b, *size)
    start = tuple(vary_with(jnp.zeros(shape, dtype), images, references) for shape in shapes)
    (count, mean, _, s_square, m_square, product), _ = fold(add, start, masks, chunk)
    # Scores that are constant up to rounding are constant: their correlation would be noise.
    rounding = 8 * jnp.finfo(dtype).eps * jnp.abs(mean)
    s_varies = s_square > count * rounding**2
    varies = s_varies[:, None, None] & (m_square > 0)[None]
    s_scale = jnp.sqrt(jnp.where(s_varies, s_square, 1))
    m_scale = jnp.sqrt(jnp.where(m_square > 0, m_square, 1))
    maps = jnp.where(varies, product / s_scale[:, None, None] / m_scale[None], 0)
    return sayable_maps(maps, references)


def _moments(s, m, valid):
    """Count, means and sums of products about the means of a chunk: s [b, n], m [n, H, W]."""
    count = jnp.sum(valid)
    s_mean = jnp.sum(s * valid[None], axis=1) / count
    m_mean = jnp.sum(m * valid[:, None, None], axis=0) / count
    s = (s - s_mean[:, None]) * valid[None]
    m = (m - m_mean[None]) * valid[:, None, None]
    squares = jnp.sum(s * s, axis=1), jnp.sum(m * m, axis=0)
    return count, s_mean, m_mean, *squares, weighted_masks(s, m)


def _merge(a, b):
    """The moments of two sets together, without the cancellation of sums of squares.

    As Chan, Golub and LeVeque do for the variance (The American Statistician, 1983).
    """
    count = a[0] + b[0]
    s, m = b[1] - a[1], b[2] - a[2]
    weight = a[0] * b[0] / count
    return (
        count,
        a[1] + s * (b[0] / count),
        a[2] + m * (b[0] / count),
        a[3] + b[3] + s * s * weight,
        a[4] + b[4] + m * m * weight,
        a[5] + b[5] + s[:, None, None] * m[None] * weight,
    )


def patch_masks(
    key: Array, indices: Array, size: tuple[int, int], patches: int, patch: int
) -> Array:
    """The masks of these numbers [n], False in the patches, [n, H, W]."""

    def one(index):
        # The type is named, so that the masks are the same where float64 is enabled.
        draws = jax.random.uniform(jax.random.fold_in(key, index), (2, patches, 1), jnp.float32)
        down, across = (_inside(u, n, patch) for u, n in zip(draws, size, strict=True))
        return ~jnp.any(down[:, :, None] & across[:, None, :], axis=0)

    return jax.vmap(one)(indices)


def _inside(draws, side, patch):
    start = jnp.floor(draws * (side - patch + 1)).astype(jnp.int32)
    pixels = jnp.arange(side, dtype=jnp.int32)[None]
    return (pixels >= start) & (pixels < start + patch)
