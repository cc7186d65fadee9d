"""Grad-ECLIP: the gradient of one attention's output times the values of the patches."""

from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray
from fam_jax._core.similarity import Similarity, cosine
from fam_jax._core.tokens import TokenGrid
from fam_jax._core.watch import Watch
from fam_jax.methods.attention_maps import attention_maps, check_attentions
from fam_jax.methods.attention_rules import value_gradient


def grad_eclip(
    watch: Watch,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    tokens: TokenGrid | tuple | None,
    similarity: Similarity = cosine,
) -> Float[Array, "b h w"]:
    """Grad-ECLIP: gradient times value of one block, its attention loosened to a cosine.

        M_i = relu(lambda_i sum_c g_c v_ic),   lambda = minmax over patches of cos(q, k_i)

    g: gradient of the class token's attention output, v_i: the patches' values, q and k_i: query
    and keys over all heads, as the layer "qkv" gives them (the authors' code compares them after
    the output projection, and runs its last block as a single head).

    Args:
        watch: of one block's layers, the last as a rule:
            `watch(model, at=["blocks.11.attn.qkv", "blocks.11.attn.attn_drop"])`.
        images: [b, H, W, c].
        references: one for each image, [b, d].
        tokens: where the patches are, and which rows are read; see `attention_rollout`.
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.

    Returns:
        Raw maps [b, h, w], not negative.

    Raises:
        TypeError, ValueError: for other arguments, or layers that give something else.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):  # five tokens that attend to each other
        ...     x = images.reshape(1, 5, 3)
        ...     q, k, v = jnp.split(fam_jax.tap(jnp.tile(x, 3), "qkv"), 3, -1)
        ...     A = fam_jax.tap(jax.nn.softmax(q @ k.swapaxes(1, 2))[:, None], "attention")
        ...     return (A[:, 0] @ v)[:, 0]
        >>> watch = fam_jax.watch(embed, at=["qkv", "attention"])
        >>> images = jnp.eye(5, 3)[None, None]
        >>> tokens = fam_jax.TokenGrid(prefix=1, shape=(2, 2))
        >>> fam_jax.grad_eclip(watch, images, jnp.array([[1.0, 1, 0]]), tokens).shape
        (1, 2, 2)

    Source:
        Zhao et al.: Gradient-based Visual Explanation for Transformer-based CLIP, ICML 2024.
    """
    return attention_maps(
        value_gradient, watch, images, references, tokens, similarity, _check_values
    )


def _check_values(at: tuple[str, ...], values: tuple) -> None:
    if len(values) != 2:
        raise ValueError(
            f"watch: expected two layers of one block, at=[qkv, attn_drop], got {list(at)}"
        )
    if values[0].ndim != 3 or values[0].shape[2] % 3:
        raise ValueError(
            "watch: expected queries, keys and values [batch, tokens, 3 * channels] first, the "
            f"layer {at[0]!r} gives {values[0].shape}"
        )
    check_attentions(at[1:], values[1:])
