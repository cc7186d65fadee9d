"""Methods that weigh dimensions by their shares of the similarity: FAM, decomposition, CAM."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.axes import space
from fam_jax._core.checks import AnyArray, check_choice
from fam_jax._core.maps import minmax
from fam_jax._core.similarity import Similarity, cosine, dot, frozen_gradient, margin
from fam_jax.methods.method import Method
from fam_jax.methods.pulled import pullback_method
from fam_jax.methods.sums import Sum, products, weighted


def channel_sum(G: Array, A: Array) -> Sum:
    """sum_k (sum_hw G_k) A_k."""
    return weighted(jnp.sum(G, axis=space(G)), A, jnp.sum(jnp.abs(G), axis=space(G)))


_SOURCES = {
    "shares": lambda similarity, z, r: similarity.shares(z, r),
    "gradient_x_input": lambda similarity, z, r: z * frozen_gradient(similarity, z, r),
}
_NORMALIZERS = {"minmax": minmax, "none": lambda w: w, "relu": jax.nn.relu}


def fam(
    similarity: Similarity = cosine, *, normalize: str = "minmax", weights: str = "shares"
) -> Method:
    """Feature Activation Maps: channels weighted by their part in the similarity.

        w = minmax_d(shares(z, r)),   alpha = sum_hw pullback(w),   M = sum_k alpha_k A_k

    In a pair both images take the same w, each with its own activations and pullback. With a
    `margin` and `normalize="none"` this is contrastive FAM: what makes the pair more alike than
    the background; with "minmax" the map hardly depends on the reference (see docs/guide.md).
    Where embeddings are signed, a share forgets the sign of z_d before it is pulled back:
    `decomposition` keeps it.

    Args:
        similarity: see `fam_jax.methods`.
        normalize: "minmax" (the paper), "none" (signed shares) or "relu" (positive ones).
        weights: "shares", or "gradient_x_input" with norms held constant (the same for `cosine`
            and `dot`; another reading of the paper for `euclidean`).

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]]))  # two channels, two positions
        >>> fam_jax.fam()(enc, jnp.array([[1.0, 0.0]])).round(3).tolist()
        [[[1.0, 0.0]]]

    Source: Liao, Gao, Zhang: Feature Activation Map, arXiv 2307.05017.
    """
    check_choice("normalize", normalize, _NORMALIZERS)
    check_choice("weights", weights, _SOURCES)
    weigh = partial(_weigh, weights=weights, normalize=normalize)
    return pullback_method(similarity, weigh, channel_sum, shared=True)


def _weigh(similarity: Similarity, z: Array, r: Array, *, weights: str, normalize: str) -> Array:
    return _NORMALIZERS[normalize](_SOURCES[weights](similarity, z, r))


def share_per_unit(similarity: Similarity, z: Array, r: Array) -> Array:
    """share_d / z_d, or the gradient where z_d is 0 or so small that 1 / z_d^2 overflows."""
    none = jnp.abs(z) < 2 * jnp.sqrt(jnp.finfo(z.dtype).tiny)  # the ratio's derivative has 1 / z^2
    ratio = similarity.shares(z, r) / jnp.where(none, 1, z)
    return jnp.where(none, frozen_gradient(similarity, z, r), ratio)


def decomposition(similarity: Similarity = cosine) -> Method:
    """Split the similarity over positions: how much of the score each one holds.

        M = sum_k pullback(v)_k A_k,   v_d = share_d / z_d   (cosine: r^ / ||z||)

    For a head that is linear in A (pooling, pooling and a bias-free linear map, flattening) the
    map sums to the score exactly, with a `margin` to the margin. Arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 0.0], [0.0, 3.0]]]]))
        >>> fam_jax.decomposition(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[3.0, -6.0]]]

    Source: Stylianou, Souvenir, Pless: Visualizing Deep Similarity Networks, WACV 2019; Zhu,
        Yang, Chen: Visual Explanation for Deep Metric Learning, TIP 2021.
    """
    return pullback_method(similarity, share_per_unit, products, pooled=weighted)


def contrastive(background: Float[AnyArray, "n d"], similarity: Similarity = cosine) -> Method:
    """Where is what makes this pair more alike than the others? The method we recommend.

        M = sum_k pullback(v)_k A_k,   v_d = [share_d(z, r) - mean_n share_d(z, b_n)] / z_d

    It is `decomposition(margin(similarity, background))`: for a head that is linear in A the map
    sums to score(z, r) - mean_n score(z, b_n) exactly. What every image has in common with every
    other cancels, so the map depends on the reference; shares keep their signs, so it works where
    embeddings are signed (projection heads), where `fam` points at random. So measured on
    convolutional networks; in transformers it depends on the layer and the gates, and
    `le_grad(margin(similarity, background), signed=True)` is what points (docs/methods.md). The
    background are embeddings of other images: the rest of the gallery, or the other classes'
    prototypes; some dozens suffice. Other arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 2.0], [4.0, 6.0]]]]))  # the first channel says nothing
        >>> others = jnp.array([[1.0, 0.0]])
        >>> fam_jax.contrastive(others, fam_jax.dot)(enc, jnp.array([[1.0, 1.0]])).tolist()
        [[[1.0, 3.0]]]

    Source: Ours; the decomposition of Stylianou et al., WACV 2019, against a background.
    """
    return decomposition(margin(similarity, background))


def cam() -> Method:
    """Class Activation Maps: the channels weighted by a classifier's row.

        alpha = sum_hw pullback(r),   M = sum_k alpha_k A_k,   r the row of the class

    References are `classifier_rows`. Where the embedding is the mean of A over h x w positions,
    alpha is the row itself and the map's mean, plus the class' bias, is its logit.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 0.0], [0.0, 3.0]]]]))
        >>> rows = fam_jax.classifier_rows(jnp.array([[2.0, 1.0], [-4.0, 0.0]]), jnp.array([0]))
        >>> fam_jax.cam()(enc, rows).tolist()
        [[[6.0, -12.0]]]

    Source: Zhou et al.: Learning Deep Features for Discriminative Localization, CVPR 2016.
    """
    return pullback_method(dot, _row, channel_sum)


def _row(similarity: Similarity, z: Array, r: Array) -> Array:
    return r
