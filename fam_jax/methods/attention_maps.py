"""From what is watched in a transformer to maps [b h w], by one of `attention_rules`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.checks import check_float, wide
from fam_jax._core.frameworks import layers
from fam_jax._core.similarity import as_similarity, cosine, frozen_gradient
from fam_jax._core.tokens import as_token_grid
from fam_jax._core.watch import Watch
from fam_jax.methods.method import sayable


def attention_layers(model: Any) -> tuple[str, ...]:
    """Where a transformer's attention matrices can be watched: its layers named "attn_drop".

    Args:
        model: a `flax.nnx` module whose softmaxed attention [b heads n n] passes through a
            submodule of that name, as in `pretrained_ports` (the name is timm's).

    Returns:
        Their paths, from the first block to the last.

    Raises:
        TypeError: if `model` is no `flax.nnx` module.
        ValueError: if it has no such layer.

    Example:
        >>> from flax import nnx
        >>> import fam_jax
        >>> class Attention(nnx.Module):
        ...     def __init__(self):
        ...         self.attn_drop = nnx.Dropout(0.0)
        >>> model = nnx.Sequential(Attention(), Attention())
        >>> fam_jax.attention_layers(model)
        ('layers.0.attn_drop', 'layers.1.attn_drop')
    """
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise TypeError(f"model: expected a flax.nnx module, got {type(model).__name__}")
    found = tuple(path for path in layers(model) if path.split(".")[-1] == "attn_drop")
    if not found:
        raise ValueError(f"model: {type(model).__name__} has no layer named 'attn_drop'")
    return found


def check_attentions(at: tuple[str, ...], values: tuple[Array, ...]) -> None:
    """Raise unless every layer gives attention matrices."""
    for name, A in zip(at, values, strict=True):
        if A.ndim != 4 or A.shape[2] != A.shape[3]:
            raise ValueError(
                "watch: expected attention matrices [batch, heads, tokens, tokens], the layer "
                f"{name!r} gives {A.shape}"
            )


def attention_maps(
    rule: Callable,
    watch: Any,
    images: Any,
    references: Any,
    tokens: Any,
    similarity: Any = cosine,
    check: Callable = check_attentions,
) -> Array:
    """Check the arguments, and make maps [b h w] by a rule; without references, by values only."""
    if not isinstance(watch, Watch):
        raise TypeError(f"watch: expected fam_jax.watch(model, at=...), got {type(watch).__name__}")
    check_float("images", images, "batch height width channels")
    if references is not None:
        check_float("references", references, "batch dimensions")
    grid = as_token_grid(tokens)
    if grid is None:
        raise TypeError("tokens: expected TokenGrid(prefix=..., shape=...), got None")
    similarity = as_similarity(similarity)
    return _maps(watch, images, references, similarity, rule=rule, check=check, tokens=grid)


@partial(jax.jit, static_argnames=("rule", "check", "tokens"))
def _maps(watch, images, references, similarity, *, rule, check, tokens):
    seen = watch(images)
    z = seen.embeddings
    check(watch.at, seen.values)
    h, w = tokens.grid(seen.values[-1].shape[-1], images.shape[1:3])
    ok, gradients = sayable(z), None
    if references is not None:
        if references.shape != z.shape:
            raise ValueError(
                f"references have shape {references.shape}, embeddings {z.shape}: one reference "
                "per image is expected"
            )
        ok &= sayable(references)
        gradients = wide(*seen.pullback(frozen_gradient(similarity, z, references)))
    found = rule(wide(*seen.values), gradients, tokens.prefix)[:, tokens.prefix :]
    ok &= jnp.all(jnp.isfinite(found), axis=-1)
    return jnp.where(ok[:, None], found, 0).reshape(-1, h, w)
