"""The one type of all methods: weights in embedding space, pulled back and combined with A."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_float, wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.frameworks.arrays import Own, as_pytree
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Similarity
from fam_jax.methods.sums import Sum


@partial(
    register_dataclass,
    data_fields=["similarity", "weigh", "combine"],
    meta_fields=["shared"],
)
@dataclass(frozen=True)
class Method:
    """A method of explanation: M = combine(G, A), G = pullback(weigh(similarity, z, r)).

    Compiled on its first call for a shape; arrays that its functions hold are leaves.

    Attributes:
        similarity: what is being explained.
        weigh: (similarity, z [b, d], r [b, d]) -> weights in embedding space [b, d].
        combine: (G [b, h, w, c], A [b, h, w, c]) -> `Sum`: maps [b, h, w], and their terms' size.
        shared: in a pair, whether the reference image's map takes the query's weights (FAM) or
            weights with the roles of the two images exchanged.
    """

    similarity: Similarity
    weigh: Callable[[Similarity, Array, Array], Array]
    combine: Callable[[Array, Array], Sum]
    shared: bool = False

    def __post_init__(self) -> None:
        hold_functions(self)

    def weights(
        self, embeddings: Float[AnyArray, "b d"], references: Float[AnyArray, "b d"]
    ) -> Float[Array, "b d"]:
        """Weights in embedding space for pairs (z, r)."""
        check_float("references", references, "batch dimensions")
        if embeddings.shape != references.shape:
            raise ValueError(
                f"references have shape {references.shape}, embeddings {embeddings.shape}: one "
                "reference per image is expected (all_pairs(method) takes any number)"
            )
        z, r = wide(embeddings, references)
        return self.weigh(self.similarity, z, r)

    def maps(self, enc: Encoding, weights: Float[Array, "b d"]) -> Float[Array, "b h w"]:
        """Maps of the encoded images for given weights; zeros if not finite or only rounding."""
        found = self.combine(*wide(enc.pullback(weights), enc.activations))
        return zero_unless(says_something(found, enc), found.value)

    def __call__(self, enc: Encoding, references: Float[AnyArray, "b d"]) -> Float[Array, "b h w"]:
        """Raw maps [b, h, w] of the images in `enc` for one reference embedding [b, d] each.

        At least float32. A map is all zeros where nothing can be said: not finite activations or
        embeddings, a zero embedding, terms that cancel up to rounding.
        """
        check_encoding(enc)
        return _maps(self, enc, references)

    def pair(
        self, query: Encoding, reference: Encoding
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b hr wr"]]:
        """Raw maps of both images of each pair."""
        check_encoding(query)
        check_encoding(reference)
        return _pair(self, query, reference)


@jax.jit
def _maps(method: Method, enc: Encoding, references: Array) -> Array:
    maps = method.maps(enc, method.weights(enc.embeddings, references))
    return zero_unless(sayable(enc.embeddings) & sayable(references), maps)


@jax.jit
def _pair(method: Method, query: Encoding, reference: Encoding) -> tuple[Array, Array]:
    z, r = query.embeddings, reference.embeddings
    weights = method.weights(z, r)
    back = weights if method.shared else method.weights(r, z)
    ok = sayable(z) & sayable(r)
    return (
        zero_unless(ok, method.maps(query, weights)),
        zero_unless(ok, method.maps(reference, back)),
    )


def hold_functions(method: Any) -> None:
    """Make `weigh` and `combine` pytrees of what they hold."""
    for name in ("weigh", "combine"):
        fn = getattr(method, name)
        ours = isinstance(fn, FunctionType) and fn.__module__.startswith("fam_jax.")
        plain = ours and inspect.unwrap(fn).__closure__ is None
        object.__setattr__(method, name, Own(fn) if plain else as_pytree(fn))


def sayable(embeddings: Float[AnyArray, "b d"]) -> Array:
    """Whether an embedding can be explained: finite and not zero. [b]."""
    return jnp.all(jnp.isfinite(embeddings), axis=-1) & jnp.any(embeddings != 0, axis=-1)


def says_something(found: Sum, enc: Encoding) -> Array:
    """Whether a map is finite and more than the rounding of its terms, [b]."""
    finite = jnp.all(jnp.isfinite(found.value), axis=(-2, -1))
    return finite & ~found.is_rounding(enc.activations, enc.embeddings)


def zero_unless(ok: Array, maps: Array) -> Array:
    """The maps [b, h, w], zeros where not `ok` [b]."""
    return jnp.where(ok[:, None, None], maps, 0)


def check_encoding(enc: Encoding) -> None:
    """Raise unless `enc` is an `Encoding`."""
    if not isinstance(enc, Encoding):
        raise TypeError(
            f"expected an Encoding, encode(images), got {type(enc).__name__}; make encode with "
            "fam_jax.capture(model, at=...) or fam_jax.encoder(features, head)"
        )


@partial(register_dataclass, data_fields=["method"], meta_fields=[])
@dataclass(frozen=True)
class AllPairs:
    """A method for every image with every reference; made by `all_pairs`."""

    method: Method

    def __call__(
        self, enc: Encoding, references: Float[AnyArray, "r d"]
    ) -> Float[Array, "b r h w"]:
        """Raw maps [b, r, h, w] of the images in `enc` for each of the references [r, d]."""
        check_encoding(enc)
        check_float("references", references, "references dimensions")
        shape = enc.embeddings.shape
        if references.shape[1] != shape[1]:
            raise ValueError(
                f"references have shape {references.shape}, but embeddings have {shape[1]} "
                "dimensions"
            )
        return _all(self.method, enc, jnp.asarray(references))


@jax.jit
def _all(method: Method, enc: Encoding, references: Array) -> Array:
    one = lambda r: method(enc, jnp.broadcast_to(r, enc.embeddings.shape))  # noqa: E731
    return jax.vmap(one, out_axes=1)(references)


def all_pairs(method: Method) -> AllPairs:
    """The method for every image with every reference, from one encoding of each.

    Args:
        method: `fam()` or another.

    Returns:
        (enc, references [r, d]) -> raw maps [b, r, h, w].

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.ones((2, 4, 4, 3)))
        >>> fam_jax.all_pairs(fam_jax.fam())(enc, jnp.ones((5, 3))).shape
        (2, 5, 4, 4)
    """
    if not isinstance(method, Method):
        raise TypeError(f"method: expected a Method such as fam(), got {type(method).__name__}")
    return AllPairs(method)
