"""Methods that weigh the embedding's dimensions, pull the weights back and combine them with A.

G = pullback(weigh(similarity, z, r))
M = combine(G, A)
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

from jaxtyping import Array

from fam_jax._core.checks import wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.frameworks.arrays import Own, as_pytree
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Similarity, as_similarity
from fam_jax.methods.method import Method, zero_unless
from fam_jax.methods.sums import Sum


@partial(register_dataclass, data_fields=["weigh", "combine"], meta_fields=["shared", "both"])
@dataclass(frozen=True)
class Pulled:
    """Maps of one image, or of a pair; see `pullback_method`."""

    weigh: Callable[[Similarity, Array, Array], Array]
    combine: Callable[..., Sum]
    shared: bool = False
    both: bool = False

    def __post_init__(self) -> None:
        for name in ("weigh", "combine"):
            object.__setattr__(self, name, _held(getattr(self, name)))

    def __call__(self, similarity: Similarity, enc: Encoding, references: Any) -> Array:
        """Raw maps of the images in `enc`."""
        other = references if self.both else None
        r = references.embeddings if self.both else references
        return self._maps(enc, self.weigh(similarity, *wide(enc.embeddings, r)), other)

    def pair(
        self, similarity: Similarity, query: Encoding, reference: Encoding
    ) -> tuple[Array, Array]:
        """Both maps, of the same weights where these are shared."""
        z, r = wide(query.embeddings, reference.embeddings)
        weights = self.weigh(similarity, z, r)
        back = weights if self.shared else self.weigh(similarity, r, z)
        return self._maps(query, weights, reference), self._maps(reference, back, query)

    def _maps(self, enc: Encoding, weights: Array, other: Encoding | None) -> Array:
        arrays = [enc.pullback(weights), enc.activations]
        if self.both and other is not None:
            arrays.append(other.activations)
        found = self.combine(*wide(*arrays))
        return zero_unless(~found.is_rounding(enc.activations, enc.embeddings), found.value)


def _held(fn: Callable) -> Callable:
    """A function as a pytree of what it holds; a plain one of this package holds nothing."""
    ours = isinstance(fn, FunctionType) and fn.__module__.startswith("fam_jax.")
    plain = ours and inspect.unwrap(fn).__closure__ is None
    return Own(fn) if plain else as_pytree(fn)


def pullback_method(
    similarity: Similarity,
    weigh: Callable[[Similarity, Array, Array], Array],
    combine: Callable[..., Sum],
    *,
    shared: bool = False,
    both: bool = False,
) -> Method:
    """A method M = combine(G, A), G = pullback(weigh(similarity, z, r)).

    Args:
        similarity: what is being explained.
        weigh: (similarity, z [b, d], r [b, d]) -> weights in embedding space [b, d].
        combine: (G [b, h, w, c], A [b, h, w, c]) -> `Sum`: maps [b, h, w] and their terms' size,
            which tells a map from rounding; with `both` it gets the other image's activations, too.
        shared: in a pair, whether the reference image's map takes the query's weights (FAM) or
            weights with the roles of the two images exchanged.
        both: whether the map of one image looks at the activations of the other.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> from fam_jax.methods import pullback_method, sums
        >>> method = pullback_method(fam_jax.dot, lambda similarity, z, r: r, sums.products)
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 0.0], [0.0, 3.0]]]]))
        >>> method(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[3.0, -6.0]]]
    """
    needs = frozenset({"other"} if both else ())
    return Method(as_similarity(similarity), Pulled(weigh, combine, shared, both), needs)
