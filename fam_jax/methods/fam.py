"""FAM: Feature Activation Maps.

w     = minmax_d(shares(z, r))     weights in embedding space
alpha = sum_hw pullback(w)         channel weights
M     = sum_k alpha_k A_k          the raw map, no ReLU
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.checks import check_choice
from fam_jax._core.maps import minmax
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Similarity, as_similarity, cosine, frozen_gradient
from fam_jax.methods.method import Method
from fam_jax.methods.sums import Sum, weighted


def channel_sum(G: Array, A: Array) -> Sum:
    """sum_k (sum_hw G_k) A_k."""
    return weighted(jnp.sum(G, axis=(1, 2)), A, jnp.sum(jnp.abs(G), axis=(1, 2)))


_SOURCES = {
    "shares": lambda similarity, z, r: similarity.shares(z, r),
    "gradient_x_input": lambda similarity, z, r: z * frozen_gradient(similarity, z, r),
}
_NORMALIZERS = {"minmax": minmax, "none": lambda w: w, "relu": jax.nn.relu}


@partial(register_dataclass, data_fields=[], meta_fields=["weights", "normalize"])
@dataclass(frozen=True)
class _Weigh:
    """Options as values, so that `fam()` made twice is the same function to `jax.jit`."""

    weights: str
    normalize: str

    def __call__(self, similarity: Similarity, z: Array, r: Array) -> Array:
        return _NORMALIZERS[self.normalize](_SOURCES[self.weights](similarity, z, r))


def fam(
    similarity: Similarity = cosine, *, normalize: str = "minmax", weights: str = "shares"
) -> Method:
    """Feature Activation Maps: channels weighted by their part in the similarity.

        w = minmax_d(shares(z, r)),   alpha = sum_hw pullback(w),   M = sum_k alpha_k A_k

    In a pair both images take the same w, each with its own activations and pullback. With a
    `margin` and `normalize="none"` this is contrastive FAM: what makes the pair more alike than
    the background; with "minmax" the map hardly depends on the reference (see the README).
    Where embeddings are signed, a share forgets the sign of z_d before it is pulled back:
    `decomposition` keeps it.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        normalize: "minmax" (the paper), "none" (signed shares) or "relu" (positive ones).
        weights: "shares", or "gradient_x_input" with norms held constant (the same for `cosine`
            and `dot`; another reading of the paper for `euclidean`).

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w].

    Raises:
        ValueError: for an unknown option.
        TypeError: if `similarity` is none.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]]))  # two channels, two positions
        >>> fam_jax.fam()(enc, jnp.array([[1.0, 0.0]])).round(3).tolist()
        [[[1.0, 0.0]]]

    Source:
        Liao, Gao, Zhang: Feature Activation Map, arXiv 2307.05017.
    """
    check_choice("normalize", normalize, _NORMALIZERS)
    check_choice("weights", weights, _SOURCES)
    return Method(as_similarity(similarity), _Weigh(weights, normalize), channel_sum, shared=True)
