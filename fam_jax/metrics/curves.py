"""Deletion and insertion: how the similarity goes as pixels are removed, or put back, in order.

A good map loses the similarity early in deletion (small area) and finds it early in insertion
(large area). Deletion alone hardly tells a map from noise: read the two together.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fam_jax._core.axes import spread
from fam_jax._core.checks import AnyArray, check_choice, check_count
from fam_jax._core.chunks import map_chunks
from fam_jax._core.leaf import Leaf
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.perturbation import score_copies
from fam_jax.metrics._arguments import check_case, nan_unless_finite
from fam_jax.metrics._pixels import ORDERS, blurred, mean_color, pixel_ranks


@pytree_dataclass("full_first")
class Curve:
    """Scores along a deletion or an insertion.

    Attributes:
        values: the score after every step, [b, steps + 1]; the first before any.
        area: the area under them by trapezoids, the whole way having length 1, [b].
        full_first: whether it begins with the whole image (deletion) or ends with it (insertion).
    """

    values: Leaf[Float[Array, "b n"]]
    area: Leaf[Float[Array, " b"]]
    full_first: bool = True


def deletion(
    embed: Callable,
    images: Float[AnyArray, "b *size c"],
    references: Float[AnyArray, "b d"],
    maps: Float[AnyArray, "b *space"],
    similarity: Similarity = cosine,
    *,
    steps: int | None = None,
    order: str = "most",
    chunk: int = 8,
) -> Curve:
    """The similarity as an image's pixels give way to its mean colour, in the map's order.

        v_k = score(z(x less its first k H W / steps pixels), r),   area = trapezoids of v

    Pixels are ranked by the bilinearly upsampled map. Equal ones, as in a constant map, are taken
    in a scattered order that is always the same, not row by row.

    Args:
        steps: into how many equal parts the pixels are divided; None for H, a row's worth each, as
            many as the first axis of positions is long.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import deletion
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image, map = jnp.array([[[[3.0], [1.0]]]]), jnp.array([[[2.0, 1.0]]])
        >>> curve = deletion(embed, image, jnp.array([[1.0, 0.0]]), map, steps=2)
        >>> [round(v, 2) for v in curve.values[0].tolist()]
        [0.95, 0.89, 0.71]

    Source: Petsiuk, Das, Saenko: RISE, BMVC 2018, there on a class probability.
    """
    case = check_case(embed, images, references, maps, similarity)
    steps = check_steps(steps, order, chunk, images)
    return _curve(*case, steps=steps, order=order, chunk=chunk, full_first=True)


def insertion(
    embed: Callable,
    images: Float[AnyArray, "b *size c"],
    references: Float[AnyArray, "b d"],
    maps: Float[AnyArray, "b *space"],
    similarity: Similarity = cosine,
    *,
    steps: int | None = None,
    order: str = "most",
    chunk: int = 8,
) -> Curve:
    """The similarity as the pixels of a blurred image become sharp, in the map's order.

        v_k = score(z(blurred x with its first k H W / steps pixels from x), r)

    The blur is Gaussian, 11 pixels wide with sigma 5 where the shorter side has 224, and in
    proportion at other sizes, but at least 3 pixels wide; edges are held.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import insertion
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image = jnp.array([[[[1.0], [0.0], [0.0]]]])
        >>> curve = insertion(embed, image, jnp.array([[1.0, 0.0, 0.0]]), image[..., 0], steps=3)
        >>> [round(v, 2) for v in curve.values[0].tolist()]
        [0.92, 0.96, 0.96, 1.0]

    Source: Petsiuk, Das, Saenko: RISE, BMVC 2018, there on a class probability.
    """
    case = check_case(embed, images, references, maps, similarity)
    steps = check_steps(steps, order, chunk, images)
    return _curve(*case, steps=steps, order=order, chunk=chunk, full_first=False)


def normalised(curve: Curve) -> Curve:
    """A curve from 1 for the whole image to 0 for the empty one.

        (v - v_empty) / (v_full - v_empty)

    Zeros where both ends score the same: there is nothing to lose. Where the empty image scores
    higher than the whole one the curve is turned over.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import Curve, normalised
        >>> normalised(Curve(jnp.array([[0.75, 0.5, 0.25]]), jnp.array([0.5]))).values.tolist()
        [[1.0, 0.5, 0.0]]
    """
    first, last = curve.values[:, :1], curve.values[:, -1:]
    full, empty = (first, last) if curve.full_first else (last, first)
    flat = full == empty
    values = jnp.where(flat, 0, (curve.values - empty) / jnp.where(flat, 1, full - empty))
    return Curve(values, _area(values), curve.full_first)


def aid(
    embed: Callable,
    images: Float[AnyArray, "b *size c"],
    references: Float[AnyArray, "b d"],
    maps: Float[AnyArray, "b *space"],
    similarity: Similarity = cosine,
    *,
    steps: int | None = None,
    chunk: int = 8,
) -> Float[Array, " b"]:
    """The area between two deletions: least relevant pixels first, less most relevant first.

        area(deletion, order="least") - area(deletion, order="most")

    0 for a constant map, and on average for a random one; the larger the better.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import aid
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image, reference = jnp.array([[[[1.0], [0.0], [0.0]]]]), jnp.array([[1.0, 0.0, 0.0]])
        >>> round(float(aid(embed, image, reference, image[..., 0], steps=3)[0]), 3)
        0.049
    """
    case = check_case(embed, images, references, maps, similarity)
    steps = check_steps(steps, "least", chunk, images)
    return _aid(case, steps=steps, chunk=chunk)


def check_steps(steps: int | None, order: str, chunk: int, images: AnyArray) -> int:
    """The number of steps, once all three are in order."""
    check_choice("order", order, ORDERS)
    check_count("chunk", chunk)
    if steps is not None:
        check_count("steps", steps, most=math.prod(images.shape[1:-1]))
    return images.shape[1] if steps is None else steps


def changed_images(
    images: Array, maps: Array, *, steps: int, order: str, full_first: bool
) -> Callable[[Array], Array]:
    """Steps [m] -> the images after each of them, [b, m, *space, c]."""
    ranks = pixel_ranks(maps, images.shape[1:-1], order)
    # Not on the device, where the products of a large image would overflow.
    counts = np.arange(steps + 1, dtype=np.int64) * math.prod(images.shape[1:-1]) // steps
    counts = jnp.asarray(counts.astype(np.int32))
    before, after = (images, mean_color(images)) if full_first else (blurred(images), images)

    def at(k: Array) -> Array:
        changed = ranks[:, None] < spread(counts[k], (0, *range(2, images.ndim)))
        return jnp.where(changed[..., None], after[:, None], before[:, None])

    return at


def curve_of_scores(
    scores: Callable, steps: int, chunk: int, full_first: bool, *maps: AnyArray
) -> Curve:
    """The curve of scores: steps [m] -> [b, m]."""
    values = map_chunks(scores, np.arange(steps + 1, dtype=np.int32), chunk, axis=1)
    values = nan_unless_finite(values, *maps)
    return Curve(values, _area(values), full_first)


def _area(values: Array) -> Array:
    """Trapezoids over a way of length 1, [b, n] -> [b]."""
    return jnp.mean((values[:, 1:] + values[:, :-1]) / 2, axis=1)


@partial(jax.jit, static_argnames=("steps", "order", "chunk", "full_first"))
def _curve(embed, images, references, maps, similarity, *, steps, order, chunk, full_first):
    images, references = jnp.asarray(images), jnp.asarray(references)
    at = changed_images(images, maps, steps=steps, order=order, full_first=full_first)
    scores = lambda k: score_copies(embed, similarity, at(k), references)  # noqa: E731
    return curve_of_scores(scores, steps, chunk, full_first, maps)


@partial(jax.jit, static_argnames=("steps", "chunk"))
def _aid(case, **options):
    least, most = (
        _curve(*case, order=order, full_first=True, **options) for order in ("least", "most")
    )
    return least.area - most.area
