"""Explaining vision transformers by their attention matrices A [b heads n n].

watch = fam_jax.watch(model, at=fam_jax.attention_layers(model))
dA    = gradient of the similarity by A, norms held constant
"""

from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray
from fam_jax._core.similarity import Similarity, cosine
from fam_jax._core.tokens import TokenGrid
from fam_jax._core.watch import Watch
from fam_jax.methods import attention_rules as rules
from fam_jax.methods.attention_maps import attention_maps


def attention_rollout(
    watch: Watch, images: Float[AnyArray, "b H W c"], tokens: TokenGrid | tuple | None
) -> Float[Array, "b h w"]:
    """Attention rollout: which patches the tokens mix in, whatever the reference.

        R = prod_l (mean_h A_l + I) / 2,   M = the class token's row of R

    Like `activation_sum` a baseline: it knows nothing of what the image is compared with.

    Args:
        watch: of attention layers, first to last: `watch(model, at=attention_layers(model))`.
        images: [b, H, W, c].
        tokens: where the patches are. With tokens before them, the first is taken for the class
            token and its row read; without, the mean of all rows.

    Returns:
        Raw maps [b, h, w].

    Raises:
        TypeError, ValueError: for other arguments, or layers that give no attention matrices.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):  # every patch attends to all four alike
        ...     A = fam_jax.tap(jnp.full((1, 2, 4, 4), 0.25), "attention")
        ...     return images.mean((1, 2)) * A[:, 0, 0].sum()
        >>> watch = fam_jax.watch(embed, at=["attention"])
        >>> fam_jax.attention_rollout(watch, jnp.ones((1, 8, 8, 3)), fam_jax.TokenGrid()).tolist()
        [[[0.25, 0.25], [0.25, 0.25]]]

    Source:
        Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020 (arXiv 2005.00928).
    """
    return attention_maps(rules.rollout, watch, images, None, tokens)


def chefer(
    watch: Watch,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    tokens: TokenGrid | tuple | None,
    similarity: Similarity = cosine,
) -> Float[Array, "b h w"]:
    """Relevance through self-attention: attention that the score wants more of, rolled out.

        R <- R + mean_h relu(A_l dA_l) R from R = I,   M = the class token's row of R - I

    Args:
        watch: of attention layers, as for `attention_rollout`. The authors' CLIP example starts
            at a late layer; leave the first ones out of `at` for that.
        images: [b, H, W, c].
        references: one for each image, [b, d].
        tokens: where the patches are, and which rows are read; see `attention_rollout`.
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.

    Returns:
        Raw maps [b, h, w], not negative.

    Raises:
        TypeError, ValueError: for other arguments, or layers that give no attention matrices.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):  # five tokens that attend to each other
        ...     x = images.reshape(1, 5, 3)
        ...     A = fam_jax.tap(jax.nn.softmax(x @ x.swapaxes(1, 2))[:, None], "attention")
        ...     return (A[:, 0] @ x)[:, 0]
        >>> watch = fam_jax.watch(embed, at=["attention"])
        >>> images = jnp.eye(5, 3)[None, None]
        >>> tokens = fam_jax.TokenGrid(prefix=1, shape=(2, 2))
        >>> fam_jax.chefer(watch, images, jnp.array([[0.0, 1, 0]]), tokens).shape
        (1, 2, 2)

    Source:
        Chefer, Gur, Wolf: Generic Attention-Model Explainability, ICCV 2021 (arXiv 2103.15679).
    """
    return attention_maps(rules.propagate, watch, images, references, tokens, similarity)


def le_grad(
    watch: Watch,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    tokens: TokenGrid | tuple | None,
    similarity: Similarity = cosine,
) -> Float[Array, "b h w"]:
    """LeGrad: how much the score would gain from more attention to a patch.

        M_i = mean over layers, heads and looking tokens j of relu(dA_l)_ji

    The authors give every layer a score of its own, by the network's head at that layer's
    tokens; here all layers share the network's score, so that any network and reference will do.

    Args:
        watch: of attention layers, as for `attention_rollout`.
        images: [b, H, W, c].
        references: one for each image, [b, d].
        tokens: where the patches are.
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.

    Returns:
        Raw maps [b, h, w], not negative.

    Raises:
        TypeError, ValueError: for other arguments, or layers that give no attention matrices.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):  # five tokens that attend to each other
        ...     x = images.reshape(1, 5, 3)
        ...     A = fam_jax.tap(jax.nn.softmax(x @ x.swapaxes(1, 2))[:, None], "attention")
        ...     return (A[:, 0] @ x)[:, 0]
        >>> watch = fam_jax.watch(embed, at=["attention"])
        >>> images = jnp.eye(5, 3)[None, None]
        >>> tokens = fam_jax.TokenGrid(prefix=1, shape=(2, 2))
        >>> fam_jax.le_grad(watch, images, jnp.array([[0.0, 1, 0]]), tokens).shape
        (1, 2, 2)

    Source:
        Bousselham et al.: LeGrad, ICCV 2025 (arXiv 2404.03214).
    """
    return attention_maps(rules.gradient_mean, watch, images, references, tokens, similarity)
