"""Explaining vision transformers by attention matrices A and the similarity's gradient by them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from fam_jax._core import frameworks
from fam_jax._core.axes import sides
from fam_jax._core.checks import wide
from fam_jax._core.encoding import LayerChoice, Layers
from fam_jax._core.similarity import Similarity, cosine, frozen_gradient
from fam_jax._core.tokens import known_grid
from fam_jax.methods import attention_rules as rules
from fam_jax.methods.method import Method

_NAME = "attn_drop"  # timm's name of the layer that the softmaxed attention passes through
_LAST = 4  # blocks


def attention_rollout(
    similarity: Similarity = cosine, *, layers: tuple[str, ...] | None = None
) -> Method:
    """Attention rollout: which patches the tokens mix in, whatever the reference.

        R = prod_l (mean_h A_l + I) / 2,   M = mean of the rows of R that the embedding reads

    Like `activation_sum` a baseline: it knows nothing of what the image is compared with.
    The encoder's `tokens` say where the patches are. The rows are those by whose attention in the
    last layer the embedding has a gradient: the class token's, the patches' where a network pools
    them, whatever tokens stand before. `layers` are those whose outputs are attention matrices,
    first to last; all named "attn_drop" if not given.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):  # every patch attends to all four alike
        ...     x = fam_jax.tap(images.reshape(1, 4, -1), "tokens")
        ...     A = fam_jax.tap(jnp.full((1, 2, 4, 4), 0.25), "attn_drop")
        ...     return (A[:, 0] @ x).mean(1)
        >>> encode = fam_jax.capture(embed, at="tokens", tokens=fam_jax.TokenGrid())
        >>> method, images = fam_jax.attention_rollout(), jnp.ones((1, 2, 2, 3))
        >>> fam_jax.explain(encode, images, jnp.ones((1, 3)), method).maps.tolist()
        [[[0.25, 0.25], [0.25, 0.25]]]

    Source: Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020 (arXiv 2005.00928).
    """
    return _method(similarity, rules.rollout, _every_block, layers)


def chefer(similarity: Similarity = cosine, *, layers: tuple[str, ...] | None = None) -> Method:
    """Relevance through self-attention: attention that the score wants more of, rolled out.

        R <- R + mean_h relu(A_l dA_l) R from R = I,   M = mean of the rows of R - I that are read

    Not negative. Rows and arguments as `attention_rollout`; the authors' CLIP example starts at a
    late layer: `attention_layers(model)[6:]`.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):  # five tokens that attend to each other
        ...     x = fam_jax.tap(images.reshape(1, 5, 3), "tokens")
        ...     A = fam_jax.tap(jax.nn.softmax(x @ x.swapaxes(1, 2))[:, None], "attn_drop")
        ...     return (A[:, 0] @ x)[:, 0]
        >>> encode = fam_jax.capture(embed, at="tokens", tokens=(1, (2, 2)))
        >>> images, references = jnp.eye(5, 3)[None, None], jnp.array([[0.0, 1, 0]])
        >>> fam_jax.explain(encode, images, references, fam_jax.chefer()).maps.shape
        (1, 2, 2)

    Source: Chefer, Gur, Wolf: Generic Attention-Model Explainability, ICCV 2021 (arXiv 2103.15679).
    """
    return _method(similarity, rules.propagate, _every_block, layers)


def le_grad(
    similarity: Similarity = cosine,
    *,
    signed: bool = False,
    layers: tuple[str, ...] | None = None,
) -> Method:
    """LeGrad: how much the score would gain from more attention to a patch.

        M_i = mean over layers, heads and looking tokens j of relu(dA_l)_ji

    `signed` leaves the ReLU out, which hides what speaks against the reference, and takes the last
    four blocks if no `layers` are given. Of a `margin`, it is the map that points in both
    transformers of docs/methods.md.

    The authors give every layer a score of its own, by the network's head at that layer's
    tokens; here all layers share the network's score, so that any network and reference will do.
    Not negative, unless `signed`. Arguments as `attention_rollout`.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):  # five tokens that attend to each other
        ...     x = fam_jax.tap(images.reshape(1, 5, 3), "tokens")
        ...     A = fam_jax.tap(jax.nn.softmax(x @ x.swapaxes(1, 2))[:, None], "attn_drop")
        ...     return (A[:, 0] @ x)[:, 0]
        >>> encode = fam_jax.capture(embed, at="tokens", tokens=(1, (2, 2)))
        >>> images, references = jnp.eye(5, 3)[None, None], jnp.array([[0.0, 1, 0]])
        >>> fam_jax.explain(encode, images, references, fam_jax.le_grad()).maps.shape
        (1, 2, 2)

    Source: Bousselham et al.: LeGrad, ICCV 2025 (arXiv 2404.03214).
    """
    if signed:
        return _method(similarity, rules.signed_gradient_mean, _last_blocks, layers)
    return _method(similarity, rules.gradient_mean, _every_block, layers)


def grad_eclip(similarity: Similarity = cosine, *, layers: tuple[str, str] | None = None) -> Method:
    """Grad-ECLIP: gradient times value of one block, its attention loosened to a cosine.

        M_i = relu(lambda_i sum_c g_c v_ic),   lambda = minmax over patches of cos(q, k_i)

    g: gradient of the class token's attention output, v_i: the patches' values, q and k_i: query
    and keys over all heads, as the layer "qkv" gives them (the authors' code compares them after
    the output projection, and runs its last block as a single head). Where other rows are read
    (see `attention_rollout`), the mean over them before the ReLU. `layers` are the two of one block
    that give queries, keys and values side by side, and attention matrices; "qkv" and "attn_drop"
    of the last if not given. Not negative. Other arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):  # five tokens that attend to each other
        ...     x = fam_jax.tap(images.reshape(1, 5, 3), "tokens")
        ...     q, k, v = jnp.split(fam_jax.tap(jnp.tile(x, 3), "qkv"), 3, -1)
        ...     A = fam_jax.tap(jax.nn.softmax(q @ k.swapaxes(1, 2))[:, None], "attn_drop")
        ...     return (A[:, 0] @ v)[:, 0]
        >>> encode = fam_jax.capture(embed, at="tokens", tokens=(1, (2, 2)))
        >>> images, references = jnp.eye(5, 3)[None, None], jnp.array([[1.0, 1, 0]])
        >>> fam_jax.explain(encode, images, references, fam_jax.grad_eclip()).maps.shape
        (1, 2, 2)

    Source: Zhao et al.: Gradient-based Visual Explanation for Transformer-based CLIP, ICML 2024.
    """
    if layers is not None and len(layers) != 2:
        raise ValueError(f"layers: expected two of one block, (qkv, attn_drop), got {layers!r}")
    return _method(similarity, rules.value_gradient, _last_block, layers)


def _method(similarity: Similarity, rule: Callable, choice: LayerChoice, layers: Any) -> Method:
    watched = choice
    if layers is not None:
        choice = tuple(layers)
        watched = _WithLast(choice)
    maps = partial(_attention, rule=rule, choice=choice)
    return Method(similarity, maps, frozenset({"layers", "tokens"}), layers=watched)


@dataclass(frozen=True)
class _WithLast:
    """Layers by name, and the network's last attention, which tells what the embedding reads."""

    layers: tuple[str, ...]

    def __call__(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.layers, *attention_among(names)[-1:])))


def attention_among(names: Iterable[str]) -> tuple[str, ...]:
    """The layers that give attention matrices, from the first block to the last."""
    return tuple(name for name in names if name.split(".")[-1] == _NAME)


def _every_block(names: tuple[str, ...]) -> tuple[str, ...]:
    if not (matrices := attention_among(names)):
        raise ValueError(
            f"this method is for transformers: the network has no layer named {_NAME!r}"
        )
    return matrices


def _last_blocks(names: tuple[str, ...]) -> tuple[str, ...]:
    return _every_block(names)[-_LAST:]


def _last_block(names: tuple[str, ...]) -> tuple[str, ...]:
    """The queries, keys and values of the last attention, and its matrices."""
    last = _every_block(names)[-1]
    return last.removesuffix(_NAME) + "qkv", last


def _attention(similarity, enc, references, *, rule, choice):
    layers = enc.layers.pick(choice)
    _check(layers, values=rule is rules.value_gradient)
    grid = known_grid(enc.encoder.tokens)
    shape = grid.grid(layers.values[-1].shape[-1], sides(enc.images.shape))
    gradients = None
    if rule is not rules.rollout:
        gradients = wide(*layers.split(frozen_gradient(similarity, enc.embeddings, references)))
    values = wide(*layers.values)
    last = (attention_among(enc.layers.names) or layers.names)[-1]
    rows = _rows(enc.layers.pick((last,)), values[-1].dtype)
    return rule(values, gradients, rows, grid.prefix)[:, grid.prefix :].reshape(-1, *shape)


def _rows(last: Layers, dtype: DTypeLike) -> Array:
    """1 / n for each of the n tokens by whose attention the embedding has a gradient, [b tokens].

    Exact zeros tell the others, so the gradient is that in any one direction which no embedding is
    bound to be orthogonal to (a constant one is to what a layer norm gives).
    """
    z = last.embeddings
    direction = jax.random.normal(jax.random.key(0), z.shape[1:], jnp.float32)
    (dA,) = last.pullback(jnp.broadcast_to(direction, z.shape))
    read = jnp.any(dA != 0, axis=(1, 3)).astype(dtype)
    return read / jnp.maximum(jnp.sum(read, axis=1, keepdims=True), 1)


def _check(layers: Layers, values: bool) -> None:
    """Raise unless these give attention matrices, after queries, keys and `values`."""
    attentions = list(zip(layers.names, layers.values, strict=True))
    if values:
        (name, qkv), *attentions = attentions
        if qkv.ndim != 3 or qkv.shape[2] % 3:
            raise ValueError(
                "layers: expected queries, keys and values [batch, tokens, 3 * channels] first, "
                f"the layer {name!r} gives {qkv.shape}"
            )
    for name, A in attentions:
        if A.ndim != 4 or A.shape[2] != A.shape[3]:
            raise ValueError(
                "layers: expected attention matrices [batch, heads, tokens, tokens], the layer "
                f"{name!r} gives {A.shape}"
            )


def attention_layers(model: Any) -> tuple[str, ...]:
    """Where a transformer's attention matrices are: its layers named "attn_drop", in order.

    `model` is a `flax.nnx` module whose softmaxed attention [b heads n n] passes through a
    submodule of that name, as in `pretrained_ports` (the name is timm's).

    Examples:
        >>> from flax import nnx
        >>> import fam_jax
        >>> class Attention(nnx.Module):
        ...     def __init__(self):
        ...         self.attn_drop = nnx.Dropout(0.0)
        >>> fam_jax.attention_layers(nnx.Sequential(Attention(), Attention()))
        ('layers.0.attn_drop', 'layers.1.attn_drop')
    """
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise TypeError(f"model: expected a flax.nnx module, got {type(model).__name__}")
    if not (paths := attention_among(frameworks.layers(model))):
        raise ValueError(f"model: {type(model).__name__} has no layer named {_NAME!r}")
    return paths
