"""Maps for batches: one image against a reference, pairs, every query against every reference.

Nothing crosses images, so a batch sharded over devices stays where it is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fam_jax._core.brief import one_line
from fam_jax._core.checks import AnyArray, check_count, check_float, check_plain
from fam_jax._core.chunks import map_chunks
from fam_jax._core.encoder import Encoder, LayersEncoder
from fam_jax._core.encoding import Encoding
from fam_jax._core.features import Features
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax._core.mesh import shards
from fam_jax._core.prepare import Images, embeddings_given, prepare
from fam_jax.methods.method import Method, all_pairs, as_method, check_encoding
from fam_jax.methods.shares import fam


class Explanation(NamedTuple):
    """Raw maps of images against one reference each (or, from `explain_all`, against all).

    `scores` are the method's similarity. `valid` is False where nothing could be said and the map
    is all zeros: values that are not finite, a zero embedding, no evidence, terms that cancel.
    """

    maps: Float[Array, "..."]  # [b, *space], or [q, r, *space]
    scores: Float[Array, "*b"]
    valid: Bool[Array, "*b"]

    __repr__ = one_line


class PairExplanation(NamedTuple):
    """Raw maps of both images of each pair; `valid` where both could be made. See `Explanation`."""

    query_maps: Float[Array, "b *space"]
    reference_maps: Float[Array, "b *other"]
    scores: Float[Array, " b"]
    valid: Bool[Array, " b"]

    __repr__ = one_line


def explain(
    encode: Encoder | Callable,
    images: Images,
    references: Float[AnyArray, "b d"],
    method: Method | Callable | None = None,
) -> Explanation:
    """Explain each image's similarity to one reference embedding.

    Args:
        encode: from `capture` or `encoder`.
        images: preprocessed images [b, H, W, c], or signals, volumes, points, token ids: what the
            network takes, the batch first; of a backbone also pictures, uint8 or a list of them,
            or of what `backbone.open` gives.
        references: an embedding for each image: a prototype, a mean neighbour, a text, ...
        method: `fam()` if not given; also a function (enc, references) -> raw maps.

    Examples:
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
    images = _prepared(encode, "images", images)
    check_float("references", references, "batch dimensions")
    return _explain(encode, images, references, method)


@jax.jit
def _explain(encode, images, references, method):
    enc = run(encode, images, method)
    maps = method(enc, references)
    return Explanation(maps, method.similarity.score(enc.embeddings, references), _valid(maps, 1))


def explain_pairs(
    encode: Encoder | Callable | tuple[Encoder | Callable, Encoder | Callable],
    queries: Images,
    references: Images,
    method: Method | Callable | None = None,
) -> PairExplanation:
    """Explain the similarity of pairs of images, of any sizes, on both.

    Args:
        encode: an encoder; or two that share an embedding space, (that of the queries, that of the
            references): of pictures and of sentences, of photographs and of sketches.
        queries: inputs of the first, as `explain` takes them.
        references: as many inputs of the second.
        method: as `explain`. What it reads it takes from each encoder for itself; a `margin`
            compares the background with the query and, for the reference's map, with the reference.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
        >>> out = fam_jax.explain_pairs(encode, jnp.ones((2, 4, 4, 3)), jnp.ones((2, 8, 8, 3)))
        >>> out.query_maps.shape, out.reference_maps.shape
        ((2, 4, 4), (2, 8, 8))
        >>> words = fam_jax.encoder(jnp.tanh, lambda A: A.mean(1))  # of signals [b, n, c]
        >>> pairs = jnp.ones((2, 4, 4, 3)), jnp.ones((2, 7, 3))
        >>> fam_jax.explain_pairs((encode, words), *pairs).reference_maps.shape
        (2, 7)
    """
    encoders, method = _check_both(encode, method)
    queries = _prepared(encoders[0], "queries", queries)
    references = _prepared(encoders[1], "references", references)
    if queries.shape[0] != references.shape[0]:
        raise ValueError(
            f"{queries.shape[0]} queries but {references.shape[0]} references: pairs need as many "
            "of both (explain_all takes every combination)"
        )
    return _explain_pairs(encoders, queries, references, method)


@jax.jit
def _explain_pairs(encoders, queries, references, method):
    query, reference = run(encoders[0], queries, method), run(encoders[1], references, method)
    return explain_encodings(query, reference, method)


def explain_encodings(query: Encoding, reference: Encoding, method: Method) -> PairExplanation:
    """`explain_pairs` of images that are encoded already."""
    maps, back = method.pair(query, reference)
    scores = method.similarity.score(query.embeddings, reference.embeddings)
    return PairExplanation(maps, back, scores, _valid(maps, 1) & _valid(back, 1))


def explain_all(
    encode: Encoder | Callable | tuple[Encoder | Callable, Encoder | Callable],
    queries: Images,
    references: Images | Float[AnyArray, "r d"],
    method: Method | Callable | None = None,
    *,
    chunk: int = 16,
) -> Explanation:
    """Explain every query against every reference; each image is encoded once.

    Args:
        references: images [r, H, W, c] or other inputs, or embeddings [r, d].
        chunk: at most this many images are encoded, and this many references contracted with
            them, at a time; beside the result, memory does not grow with q or r. Small chunks
            suit a CPU's caches; a GPU or TPU is busier with larger ones. Of images that are
            sharded over devices it is as many of every device's own: none is moved.
        encode, queries, method: as `explain_pairs`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
        >>> fam_jax.explain_all(encode, jnp.ones((2, 4, 4, 3)), jnp.ones((5, 3))).maps.shape
        (2, 5, 4, 4)
    """
    encoders, method = _check_both(encode, method)
    queries = _prepared(encoders[0], "queries", queries)
    images = not embeddings_given(references)
    if images:
        references = _prepared(encoders[1], "references", references)
    else:
        check_plain("references", references)
    check_count("chunk", chunk)
    sizes = chunk, shards(queries), shards(references)
    if "other" in method.needs:
        if not images:
            raise TypeError(
                "references: this method looks at the other image, too; give images [r, H, W, c]"
            )
        return _explain_all_images(encoders, queries, references, method, sizes=sizes)
    return _explain_all(encoders, queries, references, method, sizes=sizes)


@partial(jax.jit, static_argnames="sizes")
def _explain_all(encoders, queries, references, method, *, sizes):
    encode, encode_reference = encoders
    chunk, of_queries, of_references = sizes
    if not embeddings_given(references):
        references = map_chunks(
            lambda x: run(encode_reference, x).embeddings, references, chunk, shards=of_references
        )

    def against_all(images):
        enc = run(encode, images, method)

        def some(r):
            maps = all_pairs(method)(enc, r)  # which checks the embeddings
            z, score = enc.embeddings, method.similarity.score
            scores = jax.vmap(lambda r: score(z, jnp.broadcast_to(r, z.shape)), out_axes=1)(r)
            return maps, scores

        return map_chunks(some, references, chunk, axis=1, shards=of_references)

    maps, scores = map_chunks(against_all, jnp.asarray(queries), chunk, shards=of_queries)
    return Explanation(maps, scores, _valid(maps, 2))


@partial(jax.jit, static_argnames="sizes")
def _explain_all_images(encoders, queries, references, method, *, sizes):
    """For methods that look at the other image: each reference beside every query of a chunk."""
    encode, back = encoders
    chunk, of_queries, of_references = sizes
    # Where only the head is read, the network below the layer sees each reference once.
    whole = method.needs_images or not hasattr(back, "from_features")
    kept = jnp.asarray(references)
    if not whole:
        kept = map_chunks(back.features, references, chunk, shards=of_references)

    def against_all(images):
        enc = run(encode, images, method)

        def one(reference):
            again = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(images), *x.shape)), reference)
            joined = isinstance(again, Features)
            other = back.from_features(again) if joined else run(back, again, method)
            return method(enc, other), method.similarity.score(enc.embeddings, other.embeddings)

        if of_references > 1:  # one of every device at a time
            beside = jax.vmap(one, out_axes=1)
            return map_chunks(beside, kept, 1, axis=1, shards=of_references)
        maps, scores = jax.lax.map(one, kept)
        return jnp.moveaxis(maps, 0, 1), scores.T

    maps, scores = map_chunks(against_all, jnp.asarray(queries), chunk, shards=of_queries)
    return Explanation(maps, scores, _valid(maps, 2))


def _valid(maps, first):
    """Whether there is any evidence in a map, whose axes are those from `first` on."""
    return jnp.any(maps != 0, axis=tuple(range(first, maps.ndim)))


def run(encode: Encoder | Callable, images: AnyArray, method: Method | None = None) -> Encoding:
    """The encoding of images, with what the method reads beside it."""
    if isinstance(encode, Encoder) and method is not None:
        return encode(images, method)
    enc = encode(images)
    check_encoding(enc)
    return enc


def _check(encode: Any, method: Any, name: str = "encode") -> tuple[Any, Method]:
    if not callable(encode):
        raise TypeError(f"{name}: expected fam_jax.capture(...), got {type(encode).__name__}")
    if isinstance(encode, LayersEncoder):
        raise TypeError(
            f"{name}: this one is of {len(encode.at)} layers, and one is explained: capture it "
            "alone, or take [method(enc, references) for enc in encode(images)], of pairs "
            "[method.pair(a, b) for a, b in zip(encode(queries), encode(references))]; "
            "fam_jax.fuse makes one map of several"
        )
    return as_pytree(encode), fam() if method is None else as_method(method)


def _check_both(encode: Any, method: Any) -> tuple[tuple[Any, Any], Method]:
    """The encoder of queries, that of references, and the method; of one encoder it is both."""
    if not isinstance(encode, tuple):
        encode, method = _check(encode, method)
        return (encode, encode), method
    if len(encode) != 2:
        raise TypeError(
            "encode: expected one encoder, or two (of the queries, of the references), got a tuple "
            f"of {len(encode)}"
        )
    of_queries, method = _check(encode[0], method, "encode[0], of the queries")
    of_references, method = _check(encode[1], method, "encode[1], of the references")
    return (of_queries, of_references), method


def _prepared(encode: Any, name: str, images: Any) -> AnyArray:
    return prepare(name, images, getattr(encode, "preprocess", None))
