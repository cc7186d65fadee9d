"""Layer-wise relevance as a gradient: a copy of a network whose layers carry their rules backwards.

    R = x g       relevance of a value x, where g is its (modified) gradient

Plain differentiation of sums, means, reshaping, ReLU and max-pooling then splits relevance in
proportion already. Layers with weights do so through the value z that shares it out:

    g_z = y g_y / z        y: the layer's output, R_z = z g_z = y g_y = R_y; 0 where z = 0

    convolution, linear    z = W+ x+ + W- x-     the contributions x_i w_ij > 0: alpha 1, beta 0
    batch norm             z = x                 relevance passes whole
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core import frameworks
from fam_jax._core.checks import wide
from fam_jax._core.frameworks.paths import with_call
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.attention import is_attentive
from fam_jax.methods.method import Method
from fam_jax.methods.pulled import pullback_method
from fam_jax.methods.shares import share_per_unit
from fam_jax.methods.sums import Sum, weighted

Model = TypeVar("Model")


@jax.custom_vjp
def carry(y: Array, z: Array) -> Array:
    """The value y, its relevance given to z: R_z = R_y, or 0 where z = 0."""
    return y


def _carry_back(residuals: tuple[Array, Array], g: Array) -> tuple[None, Array]:
    y, z = residuals
    g32, y32, z32 = wide(g, y, z)
    found = jnp.where(z32 == 0, 0, y32 * g32 / jnp.where(z32 == 0, 1, z32))
    return None, found.astype(z.dtype)


carry.defvjp(lambda y, z: (y, (y, z)), _carry_back)


def relevance(model: Model) -> Model:
    """A copy of a network that gives relevance where others give gradients: R = A pullback(v).

    Convolutions and linear layers have the rule alpha 1, beta 0 without biases, batch norms pass
    relevance whole; sums, pooling, ReLU and max-pooling share it in proportion. Then relevance is
    conserved: at every layer it sums to the score, `decomposition` gives its map
    M = sum_k A_k G_k, and `relevance_cam` weighs channels by it. Two things lose some: a layer of
    another kind (layer norm, attention, PReLU, GELU) has its plain gradient, and an output without
    any positive contribution has nowhere to send its own.

    The copy's embeddings are the model's; its derivatives are for explaining, not for training.

    Args:
        model: a `flax.nnx` module. It keeps its layers; the copy has subclasses of them, under
            the same names. A subclass of `nnx.Conv` or `nnx.Linear` must be linear in its kernel.

    Returns:
        The copy, for `capture(relevance(model), at=...)`.

    Raises:
        TypeError: if `model` is no `flax.nnx` module.
        ValueError: if no layer of it has a rule.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import fam_jax
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        ...         self.linear = nnx.Linear(8, 4, rngs=rngs)
        ...     def __call__(self, images):
        ...         return self.linear(nnx.relu(self.conv(images)).mean((1, 2)))
        >>> encode = fam_jax.capture(fam_jax.relevance(Net(nnx.Rngs(0))), at="conv")
        >>> enc = encode(jnp.ones((1, 8, 8, 3)))
        >>> maps = fam_jax.decomposition()(enc, enc.embeddings)  # with itself: the cosine is 1
        >>> round(float(maps.sum()), 4)
        1.0

    Source:
        Bach et al.: On Pixel-Wise Explanations by Layer-Wise Relevance Propagation, PLOS ONE 2015.
    """
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise TypeError(f"model: expected a flax.nnx module, got {type(model).__name__}")
    copy: Any = nnx.clone(model)  # new variables around the same arrays
    found = [layer for _, layer in nnx.iter_modules(copy) if _has_rule(layer)]
    if not found and not any(_carries(layer) for _, layer in nnx.iter_modules(copy)):
        raise ValueError(
            f"model: {type(model).__name__} has no nnx.Conv, nnx.Linear or nnx.BatchNorm, and "
            "there are no rules for other layers"
        )
    for layer in found:
        layer.__class__ = _with_rule(type(layer))
    return copy


def _has_rule(layer: Any) -> bool:
    from flax import nnx

    return isinstance(layer, nnx.Conv | nnx.Linear | nnx.BatchNorm) and not _carries(layer)


def _carries(layer: Any) -> bool:
    """Whether a layer is of a copy already: a copy of a copy is the same."""
    return getattr(type(layer), "carries_relevance", False)


@lru_cache  # one class for each kind: two copies of a model share their compilations
def _with_rule(kind: type) -> type:
    """A subclass of a layer's class whose call carries relevance; any instance may take it on."""
    from flax import nnx

    passes_whole = issubclass(kind, nnx.BatchNorm)

    def __call__(self, x, *args, **kwargs):  # noqa: N807
        y = kind.__call__(self, x, *args, **kwargs)
        z = x if passes_whole else _positive(kind, self, x)
        return carry(y, z)

    return with_call(kind, __call__, carries_relevance=True)


def _positive(kind: type, layer: Any, x: Array) -> Array:
    """W+ x+ + W- x-, by the layer's own call with the parts of its kernel for a kernel."""
    # Compared with 0, not clipped: at a tie jnp.minimum would give half of the gradient.
    above = _with_kernel(kind, layer, jnp.maximum)(jnp.where(x < 0, 0, x))
    return above + _with_kernel(kind, layer, jnp.minimum)(jnp.where(x < 0, x, 0))


def _with_kernel(kind: type, layer: Any, part: Any) -> Any:
    from flax import nnx

    twin = nnx.clone(layer)
    twin.__class__ = kind
    twin.kernel[...] = part(twin.kernel[...], 0)
    if twin.bias is not None:
        twin.bias[...] = jnp.zeros_like(twin.bias[...])
    return twin


def _relevance_mean(G: Array, A: Array) -> Sum:
    R = G * A
    return weighted(jnp.mean(R, axis=(1, 2)), A, jnp.mean(jnp.abs(R), axis=(1, 2)))


def relevance_cam(similarity: Similarity = cosine) -> Method:
    """Relevance-CAM: sum_k w_k A_k, w_k = mean_hw (A_k pullback(v)_k), v_d = share_d / z_d.

    `encode(images, method)`, and whatever explains with the method, reads the network as
    `relevance(model)` does; with an ordinary pullback, of an encoder of two functions, channels
    are weighted by gradient times activation.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own. The paper starts from a
            classifier, contrastively: `dot` with the row of the class less the mean of the others.

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w].

    Raises:
        TypeError: if `similarity` is none.
        ValueError: when the network is read, for a transformer.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]]))
        >>> fam_jax.relevance_cam(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[8.0, -16.0]]]

    Source:
        Lee, Kim, Park, Eo, Hwang: Relevance-CAM: Your Model Already Knows Where to Look, CVPR
        2021.
    """
    method = pullback_method(similarity, share_per_unit, _relevance_mean)
    return replace(method, network=_of_convolutions)


def _of_convolutions(model: Model) -> Model:
    """`relevance(model)`, unless it is a transformer: attention has no rule."""
    if is_attentive(frameworks.layers(model)):
        raise ValueError(
            f"this method is for convolutional networks: {type(model).__name__} has attention, for "
            "which there is no rule (capture(relevance(model), at=...) takes it all the same)"
        )
    return relevance(model)
