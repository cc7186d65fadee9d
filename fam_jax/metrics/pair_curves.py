"""Deletion and insertion of both images of a pair at once, each in the order of its own map."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from fam_jax._core.checks import AnyArray, check_float
from fam_jax._core.encoder import as_embedding
from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.metrics._arguments import IMAGES, MAPS, check_batch, check_rank
from fam_jax.metrics.curves import Curve, changed_images, check_steps, curve_of_scores


def deletion_pairs(
    embed: Callable,
    queries: Float[AnyArray, "b *size c"],
    reference_images: Float[AnyArray, "b *other_size c"],
    query_maps: Float[AnyArray, "b *space"],
    reference_maps: Float[AnyArray, "b *other"],
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
        steps: as for `deletion`; None for the rows of a query.

    Examples:
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
    queries: Float[AnyArray, "b *size c"],
    reference_images: Float[AnyArray, "b *other_size c"],
    query_maps: Float[AnyArray, "b *space"],
    reference_maps: Float[AnyArray, "b *other"],
    similarity: Similarity = cosine,
    *,
    steps: int | None = None,
    order: str = "most",
    chunk: int = 8,
) -> Curve:
    """`insertion` on both sides of a pair: each image becomes sharp in the order of its own map.

        v_k = score(z(x sharp at its first k / steps), z(y sharp at its first k / steps))

    Examples:
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
    arrays = {"reference_images": images, "query_maps": query_maps, "reference_maps": maps}
    for name, x in {"queries": queries, **arrays}.items():
        check_float(name, x, MAPS if name.endswith("maps") else IMAGES)
    check_batch("queries", queries, **arrays)
    check_rank("queries", queries, query_maps=query_maps)
    check_rank("reference_images", images, reference_maps=maps)
    steps = check_steps(steps, order, options["chunk"], queries)
    check_steps(steps, order, options["chunk"], images)
    sides = (queries, images), (query_maps, maps)
    options |= {"steps": steps, "order": order}
    return _curve(as_embedding(embed), *sides, as_similarity(similarity), **options)


@partial(jax.jit, static_argnames=("steps", "order", "chunk", "full_first"))
def _curve(embed, images, maps, similarity, *, steps, order, chunk, full_first):
    query, reference = (
        changed_images(jnp.asarray(x), m, steps=steps, order=order, full_first=full_first)
        for x, m in zip(images, maps, strict=True)
    )

    def scores(k):
        # The batch first, so that a batch sharded over devices stays so.
        z, r = (embed(x.reshape(-1, *x.shape[2:])) for x in (query(k), reference(k)))
        return similarity.score(z, r).reshape(-1, k.shape[0])

    return curve_of_scores(scores, steps, chunk, full_first, *maps)
