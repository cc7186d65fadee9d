"""Similarities of two embeddings: a score, and its split into one share per dimension.

    score(z, r) = sum_d shares(z, r)_d

    cosine      share z^_d r^_d         (hats: divided by the L2 norm)
    dot         share z_d r_d
    euclidean   share -(z_d - r_d)^2
    margin      share of the similarity - its mean over a background set

A similarity is any object with these two functions on z, r [b, d]; yours too.
"""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_float, check_plain, wide
from fam_jax._core.frameworks.arrays import as_pytree
from fam_jax._core.leaf import Leaf
from fam_jax._core.mesh import vary_with
from fam_jax._core.pytree import OURS, pytree_dataclass

Embeddings = Float[AnyArray, "b d"]


@runtime_checkable
class Similarity(Protocol):
    """What a method asks of a similarity; z and r are both [b, d]."""

    def score(self, z: Embeddings, r: Embeddings) -> Float[Array, " b"]:
        """The similarity of every pair."""
        ...

    def shares(self, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
        """Its additive split over the embedding's dimensions."""
        ...


def normalize(x: Float[AnyArray, "... d"]) -> Float[Array, "... d"]:
    """X / ||x||_2 over the last axis, at least float32; 0 for a zero vector, also in its gradient.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> print(fam_jax.normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(6))
        [[0.6 0.8]
         [0.  0. ]]
    """
    check_plain("x", x)
    return _normalize(x)


@jax.jit
def _normalize(x: Array) -> Array:
    (x,) = wide(x)
    # Scaled to a largest entry of 1 first, so that squares neither overflow nor vanish; the scale
    # cancels, hence no gradient through it.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    x = x / jnp.where(largest == 0, 1, largest)
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.where(square == 0, 1, square))


class _Additive:
    def score(self: Similarity, z: Embeddings, r: Embeddings) -> Float[Array, " b"]:
        """The sum of the shares."""
        return jnp.sum(self.shares(z, r), axis=-1)


@pytree_dataclass()
class Cosine(_Additive):
    """cos(z, r) = sum_d z^_d r^_d; 0 if either is zero."""

    def shares(self, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
        """z^_d r^_d for every d."""
        z, r = wide(z, r)
        return normalize(z) * normalize(r)

    def frozen_gradient(self, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
        """r^ / ||z||: the gradient with both norms held constant."""
        z, r = wide(z, r)
        norm = jnp.sum(z * normalize(z), axis=-1, keepdims=True)  # as squares would vanish
        return normalize(r) / jnp.where(norm == 0, 1, norm)


@pytree_dataclass()
class Dot(_Additive):
    """z . r, the similarity of a classifier's row; `fam` gives the same maps as with `cosine`."""

    def shares(self, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
        """z_d r_d."""
        z, r = wide(z, r)
        return z * r


@pytree_dataclass()
class Euclidean(_Additive):
    """-||z - r||^2, the similarity of prototypical networks.

    Its shares say where the embeddings differ: as FAM weights they pointed no better than the plain
    sum of activations in our measurements; prefer `cosine`. The cross term 2 z_d r_d of the
    expanded square gives the maps of `dot`, `fam(weights="gradient_x_input")` those of
    -2 (z_d - r_d) z_d; how the paper weighs channels under this distance is not known.
    """

    def shares(self, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
        """-(z_d - r_d)^2."""
        z, r = wide(z, r)
        return -jnp.square(z - r)


@pytree_dataclass()
class Margin(_Additive):
    """The advantage of a reference over a background; made by `margin`."""

    similarity: Similarity
    background: Leaf[Float[AnyArray, "n d"]]

    def shares(self, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
        """The shares against r less their mean over the background."""
        return self._rival(z, self.similarity.shares, r)

    def frozen_gradient(self, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
        """The same difference of the similarity's gradients with norms held constant."""
        return self._rival(z, partial(frozen_gradient, self.similarity), r)

    def _rival(self, z, of, r):
        if self.background.shape[1] != z.shape[1]:
            raise ValueError(
                f"background has shape {self.background.shape}, but embeddings have "
                f"{z.shape[1]} dimensions"
            )
        against = jax.vmap(lambda b: of(z, jnp.broadcast_to(b, z.shape)))
        return of(z, r) - jnp.mean(against(jnp.asarray(self.background)), axis=0)


def margin(similarity: Similarity, background: Float[AnyArray, "n d"]) -> Margin:
    """How much more alike than the others: a similarity less its mean over a background set.

        score(z, r) - mean_n score(z, b_n),   shares(z, r) - mean_n shares(z, b_n)

    Still additive over dimensions, so every method takes it;
    `fam(margin(cosine, bank), normalize="none")` is contrastive FAM.

    Args:
        similarity: `cosine`, `dot`, `euclidean` or your own.
        background: embeddings of other images: the rest of the gallery, or the other classes'
            prototypes. A leaf: another of its shape compiles nothing.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> rival = fam_jax.margin(fam_jax.dot, jnp.array([[1.0, 0.0], [0.0, 1.0]]))
        >>> rival.score(jnp.array([[2.0, 4.0]]), jnp.array([[0.0, 1.0]])).tolist()
        [1.0]
    """
    check_float("background", background, "n d")
    if background.shape[0] == 0:
        raise ValueError(f"background: expected at least one embedding, got {background.shape}")
    return Margin(as_similarity(similarity), background)


@pytree_dataclass()
class _Foreign:
    """A similarity of a user's own: its functions as pytrees of the arrays it holds."""

    score: Any
    shares: Any
    frozen_gradient: Any  # None if it has none of its own


def as_similarity(similarity: Similarity) -> Similarity:
    """The similarity as a pytree; TypeError if it has no `score` and `shares`."""
    if not isinstance(similarity, Similarity):
        raise TypeError(
            "similarity: expected fam_jax.cosine, dot, euclidean, a margin, or an object with "
            f"score(z, r) and shares(z, r), got {similarity!r}"
        )
    if type(similarity) in OURS:
        return similarity

    def bound(name: str) -> Any:
        if jax.tree_util.all_leaves([similarity]):
            return as_pytree(getattr(similarity, name))
        return as_pytree(partial(getattr(type(similarity), name), similarity))

    names = ("score", "shares", "frozen_gradient")
    return _Foreign(*(bound(name) if hasattr(similarity, name) else None for name in names))


def gradient(similarity: Similarity, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
    """D score(z, r) / dz, [b, d]."""
    z, r = wide(z, r)
    z = vary_with(z, r, *jax.tree.leaves(similarity))
    return jax.grad(lambda z: jnp.sum(similarity.score(z, r)))(z)


def frozen_gradient(similarity: Similarity, z: Embeddings, r: Embeddings) -> Float[Array, "b d"]:
    """D score / dz with norms held constant: the similarity's own if it has one, else `gradient`.

    The true gradient of a cosine is blind to the length of z, so gradient times input sums to 0;
    with the norms held it sums to the cosine.
    """
    own = getattr(similarity, "frozen_gradient", None)
    return gradient(similarity, z, r) if own is None else own(z, r)


cosine = Cosine()
dot = Dot()
euclidean = Euclidean()
