"""Maps for batches: one image against a reference, pairs, every query against every reference.

Compiled, with encoder and method as arguments: parameters are inputs of the program, not
constants. Nothing crosses images, so a batch sharded over devices stays where it is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fam_jax._core.checks import AnyArray, check_count, check_float
from fam_jax._core.encoder import Encoder
from fam_jax._core.encoding import Encoding
from fam_jax._core.features import Features
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax.methods.method import Method, all_pairs, check_encoding, check_method
from fam_jax.methods.shares import fam


class Explanation(NamedTuple):
    """Maps of images against one reference each (or, from `explain_all`, against all).

    Attributes:
        maps: raw maps, [b, h, w] or [q, r, h, w].
        scores: the method's similarity, [b] or [q, r].
        valid: False where nothing could be said and the map is all zeros: an image or a reference
            that is not finite, a zero embedding, no evidence at all, terms that cancel up to
            rounding (in front of a norm that forgets length). [b] or [q, r].
    """

    maps: Float[Array, "*b h w"]
    scores: Float[Array, "*b"]
    valid: Bool[Array, "*b"]


class PairExplanation(NamedTuple):
    """Maps of both images of each pair.

    Attributes:
        query_maps: raw maps over the queries, [b, h, w].
        reference_maps: raw maps over the references, [b, h, w].
        scores: the method's similarity, [b].
        valid: False where either map could not be made and is all zeros, [b].
    """

    query_maps: Float[Array, "b h w"]
    reference_maps: Float[Array, "b hr wr"]
    scores: Float[Array, " b"]
    valid: Bool[Array, " b"]


def explain(
    encode: Encoder | Callable,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    method: Method | None = None,
) -> Explanation:
    """Explain each image's similarity to one reference embedding.

    Args:
        encode: from `capture` or `encoder`.
        images: preprocessed images.
        references: an embedding for each image: a prototype, a mean neighbour, a text, ...
        method: `fam()` if not given.

    Returns:
        `Explanation`: raw maps [b, h, w], scores [b], valid [b].

    Raises:
        ValueError, TypeError: for arguments of other shapes or types.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
        >>> out = fam_jax.explain(encode, jnp.ones((2, 4, 4, 3)), jnp.ones((2, 3)))
        >>> out.maps.shape, out.scores.round(3).tolist(), out.valid.tolist()
        ((2, 4, 4), [1.0, 1.0], [True, True])
    """
    encode, method = _check(encode, method)
    if "other" in method.needs:
        raise TypeError("method: this one looks at the other image, too; use explain_pairs")
    check_float("images", images, "batch height width channels")
    check_float("references", references, "batch dimensions")
    return _explain(encode, images, references, method)


@jax.jit
def _explain(encode, images, references, method):
    enc = run(encode, images, method)
    maps = method(enc, references)
    return Explanation(maps, method.similarity.score(enc.embeddings, references), _valid(maps))


def explain_pairs(
    encode: Encoder | Callable,
    queries: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b Hr Wr c"],
    method: Method | None = None,
) -> PairExplanation:
    """Explain the similarity of pairs of images, on both.

    Args:
        encode: from `capture` or `encoder`.
        queries: preprocessed images.
        references: the other image of each pair; its size may differ.
        method: `fam()` if not given.

    Returns:
        `PairExplanation`: raw maps of both [b, h, w], scores [b], valid [b].

    Raises:
        ValueError, TypeError: for arguments of other shapes or types.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
        >>> out = fam_jax.explain_pairs(encode, jnp.ones((2, 4, 4, 3)), jnp.ones((2, 8, 8, 3)))
        >>> out.query_maps.shape, out.reference_maps.shape
        ((2, 4, 4), (2, 8, 8))
    """
    encode, method = _check(encode, method)
    check_float("queries", queries, "batch height width channels")
    check_float("references", references, "batch height width channels")
    if queries.shape[0] != references.shape[0]:
        raise ValueError(
            f"{queries.shape[0]} queries but {references.shape[0]} references: pairs need as many "
            "of both (explain_all takes every combination)"
        )
    return _explain_pairs(encode, queries, references, method)


@jax.jit
def _explain_pairs(encode, queries, references, method):
    return explain_encodings(run(encode, queries, method), run(encode, references, method), method)


def explain_encodings(query: Encoding, reference: Encoding, method: Method) -> PairExplanation:
    """`explain_pairs` of images that are encoded already."""
    maps, back = method.pair(query, reference)
    scores = method.similarity.score(query.embeddings, reference.embeddings)
    return PairExplanation(maps, back, scores, _valid(maps) & _valid(back))


def explain_all(
    encode: Encoder | Callable,
    queries: Float[AnyArray, "q H W c"],
    references: Float[AnyArray, "r ..."],
    method: Method | None = None,
    *,
    chunk: int = 16,
) -> Explanation:
    """Explain every query against every reference; each image is encoded once.

    Args:
        encode: from `capture` or `encoder`.
        queries: preprocessed images.
        references: images [r, H, W, c], or embeddings [r, d].
        method: `fam()` if not given.
        chunk: at most this many images are encoded, and this many references contracted with
            them, at a time; beside the result, memory does not grow with q or r. Small chunks
            suit a CPU's caches; a GPU or TPU is busier with larger ones.

    Returns:
        `Explanation`: raw maps [q, r, h, w], scores [q, r], valid [q, r].

    Raises:
        ValueError, TypeError: for arguments of other shapes or types.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
        >>> fam_jax.explain_all(encode, jnp.ones((2, 4, 4, 3)), jnp.ones((5, 3))).maps.shape
        (2, 5, 4, 4)
    """
    encode, method = _check(encode, method)
    check_float("queries", queries, "batch height width channels")
    images = getattr(references, "ndim", 2) == 4
    check_float(
        "references", references, "batch height width channels" if images else "batch dimensions"
    )
    check_count("chunk", chunk)
    if "other" in method.needs:
        if not images:
            raise TypeError(
                "references: this method looks at the other image, too; give images [r, H, W, c]"
            )
        return _explain_all_images(encode, queries, references, method, chunk=chunk)
    return _explain_all(encode, queries, references, method, chunk=chunk)


@partial(jax.jit, static_argnames="chunk")
def _explain_all(encode, queries, references, method, *, chunk):
    if references.ndim == 4:
        references = _chunked(lambda x: run(encode, x).embeddings, references, chunk)

    def against_all(images):
        enc = run(encode, images, method)

        def some(r):
            maps = all_pairs(method)(enc, r)
            one = lambda r: method.similarity.score(  # noqa: E731
                enc.embeddings, jnp.broadcast_to(r, enc.embeddings.shape)
            )
            # References first, the axis that is put together again.
            return jnp.moveaxis(maps, 1, 0), jax.vmap(one)(r)

        maps, scores = _chunked(some, references, chunk)
        return jnp.moveaxis(maps, 0, 1), scores.T

    maps, scores = _chunked(against_all, jnp.asarray(queries), chunk)
    return Explanation(maps, scores, _valid(maps))


@partial(jax.jit, static_argnames="chunk")
def _explain_all_images(encode, queries, references, method, *, chunk):
    """For methods that look at the other image: each reference beside every query of a chunk."""
    # Where only the head is read, the network below the layer sees each reference once.
    whole = method.needs_images or not hasattr(encode, "from_features")
    kept = jnp.asarray(references) if whole else _chunked(encode.features, references, chunk)

    def against_all(images):
        enc = run(encode, images, method)

        def one(reference):
            again = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(images), *x.shape)), reference)
            if isinstance(again, Features):
                other = encode.from_features(again)
            else:
                other = run(encode, again, method)
            return method(enc, other), method.similarity.score(enc.embeddings, other.embeddings)

        maps, scores = jax.lax.map(one, kept)
        return jnp.moveaxis(maps, 0, 1), scores.T

    maps, scores = _chunked(against_all, jnp.asarray(queries), chunk)
    return Explanation(maps, scores, _valid(maps))


def _chunked(fn, xs, chunk):
    """`fn` over the leading axis, at most `chunk` rows at a time; one loop and one remainder."""
    rows = xs.shape[0]
    if rows <= chunk:
        return fn(xs)
    whole = rows - rows % chunk
    out = jax.lax.map(fn, xs[:whole].reshape(-1, chunk, *xs.shape[1:]))
    out = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), out)
    if whole == rows:
        return out
    rest = fn(xs[whole:])
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), out, rest)


def _valid(maps):
    return jnp.any(maps != 0, axis=(-2, -1))


def run(encode: Encoder | Callable, images: AnyArray, method: Method | None = None) -> Encoding:
    """The encoding of images, with what the method reads beside it."""
    if isinstance(encode, Encoder) and method is not None:
        return encode(images, method)
    enc = encode(images)
    check_encoding(enc)
    return enc


def _check(encode: Any, method: Any) -> tuple[Any, Method]:
    if not callable(encode):
        raise TypeError(f"encode: expected fam_jax.capture(...), got {type(encode).__name__}")
    if method is not None:
        check_method(method)
    return as_pytree(encode), fam() if method is None else method
