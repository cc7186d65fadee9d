"""CAM, which FAM comes from: the evidence for a class, channel by channel."""

from jax import Array

from fam_jax._core.similarity import Similarity, dot
from fam_jax.methods.fam import channel_sum
from fam_jax.methods.method import Method


def _row(similarity: Similarity, z: Array, r: Array) -> Array:
    return r


def cam() -> Method:
    """Class Activation Maps: the channels weighted by a classifier's row.

        alpha = sum_hw pullback(r),   M = sum_k alpha_k A_k,   r the row of the class

    References are `classifier_rows`. Where the embedding is the mean of A over h x w positions,
    alpha is the row itself and the map's mean, plus the class' bias, is its logit.

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w].

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 0.0], [0.0, 3.0]]]]))
        >>> rows = fam_jax.classifier_rows(jnp.array([[2.0, 1.0], [-4.0, 0.0]]), jnp.array([0]))
        >>> fam_jax.cam()(enc, rows).tolist()
        [[[6.0, -12.0]]]

    Source:
        Zhou et al.: Learning Deep Features for Discriminative Localization, CVPR 2016.
    """
    return Method(dot, _row, channel_sum)
