"""Deletion and insertion of both images of a pair at once, each in the order of its own map."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fam_jax._core.checks import AnyArray, check_float
from fam_jax._core.chunks import map_chunks
from fam_jax._core.encoder import as_embedding
from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.metrics._arguments import IMAGES, MAPS, check_batch, nan_unless_finite
from fam_jax.metrics._pixels import embed_each, score_each
from fam_jax.metrics.curves import Curve, area_under, check_way, versions


def deletion_pairs(
    embed: Callable,
    queries: Float[AnyArray, "b H W c"],
    reference_images: Float[AnyArray, "b Hr Wr c"],
    query_maps: Float[AnyArray, "b h w"],
    reference_maps: Float[AnyArray, "b hr wr"],
    similarity: Similarity = cosine,
    *,
    steps: int | None = None,
    order: str = "most",
    chunk: int = 8,
) -> Curve:
    """`deletion` on both sides of a pair: each image loses pixels in the order of its own map.

        v_k = score(z(x less its first k / steps), z(y less its first k / steps))

    Args:
        reference_images: the other image of each pair; its size may differ.
        steps: as for `deletion`, like all that follows; None for the rows of a query.

    Example:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import deletion_pairs
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> image, map = jnp.array([[[[4.0], [0.0]]]]), jnp.array([[[2.0, 1.0]]])
        >>> curve = deletion_pairs(embed, image, image, map, map, steps=2)
        >>> [round(v, 2) for v in curve.values[0].tolist()]
        [1.0, 1.0, 1.0]
    """
    pair = (embed, queries, reference_images, query_maps, reference_maps, similarity)
    return _checked(*pair, steps=steps, order=order, chunk=chunk, full_first=True)


def insertion_pairs(
    embed: Callable,
    queries: Float[AnyArray, "b H W c"],
    reference_images: Float[AnyArray, "b Hr Wr c"],
    query_maps: Float[AnyArray, "b h w"],
    reference_maps: Float[AnyArray, "b hr wr"],
    similarity: Similarity = cosine,
    *,
    steps: int | None = None,
    order: str = "most",
    chunk: int = 8,
) -> Curve:
    """`insertion` on both sides of a pair: each image becomes sharp in the order of its own map.

        v_k = score(z(x sharp at its first k / steps), z(y sharp at its first k / steps))

    Example:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import insertion_pairs
        >>> embed = lambda images: images.reshape(images.shape[0], -1)
        >>> x, y = jnp.array([[[[1.0], [0.0], [0.0]]]]), jnp.array([[[[0.0], [0.0], [1.0]]]])
        >>> curve = insertion_pairs(embed, x, y, x[..., 0], y[..., 0], steps=3)
        >>> [round(v, 2) for v in curve.values[0].tolist()]
        [0.16, 0.08, 0.08, 0.0]
    """
    pair = (embed, queries, reference_images, query_maps, reference_maps, similarity)
    return _checked(*pair, steps=steps, order=order, chunk=chunk, full_first=False)


def _checked(embed, queries, images, query_maps, maps, similarity, *, steps, order, **options):
    check_float("queries", queries, IMAGES)
    check_float("reference_images", images, IMAGES)
    check_float("query_maps", query_maps, MAPS)
    check_float("reference_maps", maps, MAPS)
    check_batch(
        "queries", queries, reference_images=images, query_maps=query_maps, reference_maps=maps
    )
    steps = check_way(steps, order, options["chunk"], queries)
    check_way(steps, order, options["chunk"], images)
    sides = (queries, images), (query_maps, maps)
    options |= {"steps": steps, "order": order}
    return _along_both(as_embedding(embed), *sides, as_similarity(similarity), **options)


@partial(jax.jit, static_argnames=("steps", "order", "chunk", "full_first"))
def _along_both(embed, images, maps, similarity, *, steps, order, chunk, full_first):
    sides = [
        versions(jnp.asarray(x), m, steps=steps, order=order, full_first=full_first)
        for x, m in zip(images, maps, strict=True)
    ]

    def scores(k):
        query, reference = (embed_each(embed, at(k)) for at in sides)
        return score_each(similarity, query, reference)

    values = map_chunks(scores, np.arange(steps + 1, dtype=np.int32), chunk, axis=1)
    values = nan_unless_finite(values, *maps)
    return Curve(values, area_under(values), full_first)
