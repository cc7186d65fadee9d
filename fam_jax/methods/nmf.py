"""Concepts that two images share: non-negative factors of both images' activations."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.axes import map_axes, space, spread
from fam_jax._core.brief import one_line
from fam_jax._core.checks import check_count, wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.similarity import Similarity, as_similarity, cosine, frozen_gradient
from fam_jax.methods.method import Method, check_pair, explainable
from fam_jax.methods.nonnegative import factorise
from fam_jax.methods.pairs import pair_method


class Concepts(NamedTuple):
    """Concepts of pairs of images, the weightiest of the pair first: directions among the channels.

    Of both images: where each concept is how strong, how much the similarity depends on it, and the
    weighted sums, raw maps. The errors ||[A; B] - W H|| / ||[A; B]|| are what is in no concept.
    """

    concepts: Float[Array, "b k c"]
    query_concepts: Float[Array, "b k *space"]
    reference_concepts: Float[Array, "b k *other"]
    query_weights: Float[Array, "b k"]
    reference_weights: Float[Array, "b k"]
    query_maps: Float[Array, "b *space"]
    reference_maps: Float[Array, "b *other"]
    errors: Float[Array, " b"]

    __repr__ = one_line


def nmf_concepts(similarity: Similarity = cosine, *, k: int = 6, steps: int = 200) -> Method:
    """The concepts that two images share, weighted by how much the similarity depends on them.

        M = sum_k a_k W_k,   a and W from `concepts`

    Not negative. Arguments and source as `concepts`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> a, b = jnp.array([[[[3.0, 0.0], [0.0, 1.0]]]]), jnp.array([[[[0.0, 2.0]]]])
        >>> fam_jax.explain_pairs(encode, a, b, fam_jax.nmf_concepts(k=2)).query_maps.shape
        (1, 1, 2)
    """
    check_count("k", k)
    check_count("steps", steps)
    return pair_method(similarity, _nmf_concepts, k=k, steps=steps)


def _nmf_concepts(similarity, query, reference, *, k, steps):
    shared = concepts(query, reference, k, steps, similarity)
    return shared.query_maps, shared.reference_maps


def concepts(
    query: Encoding,
    reference: Encoding,
    k: int = 6,
    steps: int = 200,
    similarity: Similarity = cosine,
) -> Concepts:
    """Split the activations of two images into concepts they share.

        [A; B] = W H  (all non-negative),   a_k = sum_c mean_hw |G_c| H_kc,   M = sum_k a_k W_k

    The positions of both images are the rows of one matrix; W says where a concept is, H what
    channels it is made of, G = pullback(ds/dz with norms frozen) how much it matters.
    Multiplicative updates from a fixed start: the same images give the same concepts. Negative
    activations count as zero; all is zero for a pair of which nothing can be said. There are k
    concepts and `steps` updates of both factors; maps of the two images may differ in size.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> a, b = jnp.array([[[[3.0, 0.0], [0.0, 1.0]]]]), jnp.array([[[[0.0, 2.0]]]])
        >>> shared = fam_jax.concepts(encode(a), encode(b), k=2)
        >>> shared.query_concepts.shape, bool(shared.errors[0] < 0.01)
        ((1, 2, 1, 2), True)

    Source: Lee, Seung: Algorithms for Non-negative Matrix Factorization, NIPS 2000; the idea of
        weighing factors by gradients from Liu et al.: FFAM, NeurIPS 2024 (2405.12601).
    """
    check_pair(query, reference)
    channels = query.activations.shape[-1], reference.activations.shape[-1]
    if channels[0] != channels[1]:
        raise ValueError(f"reference: expected {channels[0]} channels, got {channels[1]}")
    check_count("k", k)
    check_count("steps", steps)
    return _concepts(query, reference, as_similarity(similarity), k=k, steps=steps)


@partial(jax.jit, static_argnames=("k", "steps"))
def _concepts(query, reference, similarity, *, k, steps):
    A, z = wide(query.activations, query.embeddings)
    B, r = wide(reference.activations, reference.embeddings)
    G = query.split(frozen_gradient(similarity, z, r))
    F = reference.split(frozen_gradient(similarity, r, z))
    G, F = (jnp.mean(jnp.abs(x), axis=space(x)) for x in wide(G, F))
    ok = explainable(z) & explainable(r)
    for x in (A, B, G, F):
        ok = ok & jnp.all(jnp.isfinite(x), axis=map_axes(x))

    def rows(x):
        return jnp.maximum(x.reshape(x.shape[0], -1, x.shape[-1]), 0)

    V = jnp.where(ok[:, None, None], jnp.concatenate([rows(A), rows(B)], axis=1), 0)
    factors = jax.vmap(partial(factorise, k=k, steps=steps))(V)

    def one(V, factors, g, f):
        W, H = factors
        weights = jnp.stack([H @ g, H @ f])
        # By its part in both maps; by a product rather than an index, which would gather.
        order = jnp.argsort(-jnp.sum(weights, axis=0) * jnp.sum(W, axis=0))
        P = jax.nn.one_hot(order, k, dtype=W.dtype)
        W, H, weights = W @ P.T, P @ H, weights @ P.T
        size = jnp.sqrt(jnp.sum(V * V))
        error = jnp.sqrt(jnp.sum(jnp.square(V - W @ H))) / jnp.where(size > 0, size, 1)
        return W, H, weights, error

    with jax.default_matmul_precision("highest"):
        G, F = (jnp.where(ok[:, None], x, 0) for x in (G, F))
        W, H, weights, errors = jax.vmap(one)(V, factors, G, F)
    n = math.prod(A.shape[1:-1])
    parts = []
    for where, of, a in ((W[:, :n], A, weights[:, 0]), (W[:, n:], B, weights[:, 1])):
        maps = jnp.moveaxis(where, 1, 2).reshape(-1, k, *of.shape[1:-1])
        parts.append((maps, a, jnp.sum(spread(a, map_axes(maps)[1:]) * maps, axis=1)))
    (Q, q, M), (R, s, N) = parts
    return Concepts(H, Q, R, q, s, M, N, errors)
