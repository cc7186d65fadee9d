"""Methods that need both images of a pair: the map of one looks at the other's activations."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
from jaxtyping import Array, Float

from fam_jax._core.checks import wide
from fam_jax._core.encoding import Encoding
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Similarity
from fam_jax.methods.method import (
    check_encoding,
    hold_functions,
    sayable,
    says_something,
    zero_unless,
)
from fam_jax.methods.sums import Sum


@partial(register_dataclass, data_fields=["similarity", "weigh", "combine"], meta_fields=[])
@dataclass(frozen=True)
class PairMethod:
    """A method for pairs of images: M = combine(G, A, B), G = pullback(weigh(similarity, z, r)).

    For `explain_pairs`; `explain` and `explain_all` have no second image to look at.

    Attributes:
        similarity: what is being explained.
        weigh: (similarity, z [b, d], r [b, d]) -> weights in embedding space [b, d].
        combine: (G [b, h, w, c], A [b, h, w, c], the other image's B [b, hr, wr, c]) -> `Sum`.
    """

    similarity: Similarity
    weigh: Callable[[Similarity, Array, Array], Array]
    combine: Callable[[Array, Array, Array], Sum]

    def __post_init__(self) -> None:
        hold_functions(self)

    def pair(
        self, query: Encoding, reference: Encoding
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b hr wr"]]:
        """Raw maps of both images of each pair; zeros where nothing can be said."""
        check_encoding(query)
        check_encoding(reference)
        z, r = query.embeddings, reference.embeddings
        if z.shape != r.shape:
            raise ValueError(
                f"reference: expected embeddings {z.shape} like the query's, got {r.shape}"
            )
        return _pair(self, query, reference)


@jax.jit
def _pair(method: PairMethod, query: Encoding, reference: Encoding) -> tuple[Array, Array]:
    ok = sayable(query.embeddings) & sayable(reference.embeddings)
    return _map(method, query, reference, ok), _map(method, reference, query, ok)


def _map(method: PairMethod, own: Encoding, other: Encoding, ok: Array) -> Array:
    z, r = wide(own.embeddings, other.embeddings)
    G = own.pullback(method.weigh(method.similarity, z, r))
    found = method.combine(*wide(G, own.activations, other.activations))
    return zero_unless(ok & says_something(found, own), found.value)
