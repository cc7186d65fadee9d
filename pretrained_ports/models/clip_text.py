"""The text tower of CLIP, so that a sentence can be what an image is compared with.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from pretrained_ports.models.layers import Stage
from pretrained_ports.models.transformer import Block, LayerNorm, gelu, linear


class Variant(NamedTuple):
    """One row of `VARIANTS`: channels, attention heads, blocks, length of the embedding."""

    width: int
    heads: int
    depth: int
    embedding_dim: int
    vocabulary: int = 49408
    context: int = 77


# The text towers beside ViT-B/32 and ViT-B/16, and beside ViT-L/14.
VARIANTS = {
    "base": Variant(512, 8, 12, 512),
    "large": Variant(768, 12, 12, 768),
}

_INIT = nnx.initializers.normal(0.02)


class _Embed(nnx.Embed):
    """A row for every token, which stays on the device that has its sentence; NaN for no token."""

    def __call__(self, inputs: Array) -> Array:
        own = jax.typeof(inputs).sharding
        out = None if own.mesh.empty else jax.NamedSharding(own.mesh, jax.P(*own.spec, None))
        return self.embedding[...].at[inputs].get(mode="fill", out_sharding=out)


class TextTransformer(nnx.Module):
    """A causal transformer read at the end of the sentence: token numbers [b n] -> [b e].

    The end token has the highest number. No token sees those after it, so whatever stands behind
    it to fill the row (0 in OpenAI's code, the end token again in Hugging Face's) has no influence.
    Blocks are at "blocks.0", ..., layers at "blocks.0.attn.qkv".

    Args:
        variant: A name in `VARIANTS`.
        act: Activation of the blocks: `quick_gelu` for OpenAI's weights, `gelu` for most others.
        rngs: Random numbers for the initial weights (normal, deviation 0.02).
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> model = nnx.eval_shape(lambda: TextTransformer("base", rngs=nnx.Rngs(0)))
        >>> sentence = jnp.array([[49406, 320, 1929, 49407]])  # start, "a", "dog", end
        >>> nnx.eval_shape(lambda model: model(sentence), model).shape
        (1, 512)
    """

    def __init__(
        self,
        variant: str,
        act: Callable[[Array], Array] = gelu,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        width, heads, depth, embedding_dim, vocabulary, context = VARIANTS[variant]
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.token_embedding = _Embed(vocabulary, width, embedding_init=_INIT, **init)
        self.positional_embedding = nnx.Param(_INIT(rngs.params(), (context, width), param_dtype))
        self.blocks = Stage(
            Block(width, heads, 4 * width, epsilon=1e-5, act=act, causal=True, **init)
            for _ in range(depth)
        )
        self.ln_final = LayerNorm(width, 1e-5, **init)
        self.text_projection = linear(width, embedding_dim, bias=False, **init)

    def __call__(self, token_ids: Int[Array | np.ndarray, "b n"]) -> Float[Array, "b e"]:
        """Embed sentences; a number outside the vocabulary gives NaN.

        Raises:
            ValueError: `token_ids` are not whole numbers [b, n] with n from 1 to 77.
        """
        ids = self._as_input(token_ids)
        positions = self.positional_embedding[...][: ids.shape[1]]
        x = self.token_embedding(ids) + positions[None]
        x = self.ln_final(self.blocks(x))
        end = jnp.argmax(ids, axis=1)
        return self.text_projection(jax.vmap(lambda tokens, i: tokens[i])(x, end))

    def _as_input(self, token_ids: Array | np.ndarray) -> Array:
        longest = self.positional_embedding.shape[0]
        shape = jnp.shape(token_ids)
        if len(shape) != 2 or not 1 <= shape[1] <= longest:
            raise ValueError(
                f"token_ids must be [b, n] with n from 1 to {longest}, got shape {list(shape)}"
            )
        ids = jnp.asarray(token_ids)
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"token_ids must be whole numbers, got {ids.dtype}")
        return ids
