"""What to take when the map has to be faithful: the decomposition of a margin."""

from jaxtyping import Float

from fam_jax._core.checks import AnyArray
from fam_jax._core.similarity import Similarity, cosine, margin
from fam_jax.methods.decomposition import decomposition
from fam_jax.methods.method import Method


def contrastive(background: Float[AnyArray, "n d"], similarity: Similarity = cosine) -> Method:
    """Where is what makes this pair more alike than the others? The method we recommend.

        M = sum_k pullback(v)_k A_k,   v_d = [share_d(z, r) - mean_n share_d(z, b_n)] / z_d

    It is `decomposition(margin(similarity, background))`: for a head that is linear in A the map
    sums to score(z, r) - mean_n score(z, b_n) exactly. What every image has in common with every
    other cancels, so the map depends on the reference; shares keep their signs, so it works where
    embeddings are signed (projection heads), where `fam` points at random. So measured on
    convolutional networks; in a small vision transformer it did no better than chance, and
    `chefer` and `le_grad` did (docs/evaluation).

    Args:
        background: embeddings [n, d] of other images: the rest of the gallery, or the other
            classes' prototypes. Some dozens of them suffice.
        similarity: `cosine` or another.

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w], signed.

    Raises:
        ValueError, TypeError: as for `margin`.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 2.0], [4.0, 6.0]]]]))  # the first channel says nothing
        >>> others = jnp.array([[1.0, 0.0]])
        >>> fam_jax.contrastive(others, fam_jax.dot)(enc, jnp.array([[1.0, 1.0]])).tolist()
        [[[1.0, 3.0]]]

    Source:
        Ours; the decomposition of Stylianou et al., WACV 2019, against a background.
    """
    return decomposition(margin(similarity, background))
