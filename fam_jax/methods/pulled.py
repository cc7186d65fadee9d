"""Methods that weigh the embedding's dimensions, pull the weights back and combine them with A."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array

from fam_jax._core.axes import space
from fam_jax._core.brief import called
from fam_jax._core.checks import wide
from fam_jax._core.constant import constant_axes
from fam_jax._core.encoding import Encoding
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax._core.pytree import pytree_dataclass
from fam_jax._core.similarity import Similarity
from fam_jax.methods.method import Method, zero_unless
from fam_jax.methods.sums import Sum


@pytree_dataclass("shared", "both", "gradient")
class Pulled:
    """Maps of one image, or of a pair; see `pullback_method`."""

    weigh: Callable[[Similarity, Array, Array], Array]
    combine: Callable[..., Sum]
    pooled: Callable[[Array, Array], Sum] | None = None
    shared: bool = False
    both: bool = False
    gradient: bool = False

    def _words(self) -> str:
        flags = {name: True for name in ("shared", "both", "gradient") if getattr(self, name)}
        return called(Pulled, (self.weigh, self.combine), flags)

    def __call__(self, similarity: Similarity, enc: Encoding, references: Any) -> Array:
        """Raw maps of the images in `enc`."""
        r = references.embeddings if self.both else references
        return self._maps(enc, self.weigh(similarity, *wide(enc.embeddings, r)), references)

    def pair(
        self, similarity: Similarity, query: Encoding, reference: Encoding
    ) -> tuple[Array, Array]:
        """Both maps, of the same weights where these are shared."""
        z, r = wide(query.embeddings, reference.embeddings)
        weights = self.weigh(similarity, z, r)
        back = weights if self.shared else self.weigh(similarity, r, z)
        return self._maps(query, weights, reference), self._maps(reference, back, query)

    def _maps(self, enc: Encoding, weights: Array, other: Any) -> Array:
        A, others = enc.activations, [other.activations] if self.both else []
        back = enc.pullback if self.gradient else enc.split
        if self.pooled is None:
            terms = self.combine(*wide(back(weights), A, *others))
        else:
            program = jax.make_jaxpr(back)(weights)
            (G,) = jaxpr_as_fun(program)(weights)
            if set(space(G)) <= constant_axes(program)[0]:
                terms = self.pooled(*wide(G[:, *[0] * len(space(G))], A))
            else:
                terms = self.combine(*wide(G, A))
        return zero_unless(~terms.is_rounding(enc.activations, enc.embeddings), terms.value)


def pullback_method(
    similarity: Similarity,
    weigh: Callable[[Similarity, Array, Array], Array],
    combine: Callable[..., Sum],
    *,
    pooled: Callable[[Array, Array], Sum] | None = None,
    shared: bool = False,
    both: bool = False,
    gradient: bool = False,
) -> Method:
    """A method M = combine(G, A), G = pullback(weigh(similarity, z, r)).

    Args:
        weigh: (similarity, z [b, d], r [b, d]) -> weights in embedding space [b, d].
        combine: (G [b, *space, c], A alike) -> `Sum`: maps [b, *space] and their terms' size,
            which tells a map from rounding; with `both` it gets the other image's activations, too.
        pooled: (g [b, c], A [b, *space, c]) -> what `combine` gives if G is g at every position, as
            under a head that pools: a matrix product in the place of sums over G A.
        shared: in a pair, whether the reference image's map takes the query's weights (FAM) or
            weights with the roles of the two images exchanged.
        both: whether the map of one image looks at the activations of the other.
        gradient: whether the weights are the score's gradient, pulled back as it is; if not, a norm
            that the network ends in is held constant (`Encoding.split`).
        similarity: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> from fam_jax.methods import pullback_method, sums
        >>> method = pullback_method(fam_jax.dot, lambda similarity, z, r: r, sums.products)
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 0.0], [0.0, 3.0]]]]))
        >>> method(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[3.0, -6.0]]]
    """
    pooled = None if pooled is None else as_pytree(pooled)
    maps = Pulled(as_pytree(weigh), as_pytree(combine), pooled, shared, both, gradient)
    return Method(similarity, maps, frozenset({"other"} if both else ()))
