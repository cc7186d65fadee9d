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
from fam_jax._core.axes import space
from fam_jax._core.checks import wide
from fam_jax._core.frameworks.paths import with_call
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.attention import attention_among
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
    gradient = jnp.where(z32 == 0, 0, y32 * g32 / jnp.where(z32 == 0, 1, z32))
    return None, gradient.astype(z.dtype)


carry.defvjp(lambda y, z: (y, (y, z)), _carry_back)


def relevance(model: Model) -> Model:
    """A copy of a network that gives relevance where others give gradients: R = A pullback(v).

    Convolutions and linear layers have the rule alpha 1, beta 0 without biases, batch norms pass
    relevance whole; sums, pooling, ReLU and max-pooling share it in proportion. Then relevance is
    conserved: at every layer it sums to the score, `decomposition` gives its map
    M = sum_k A_k G_k, and `relevance_cam` weighs channels by it. Two things lose some: a layer of
    another kind (layer norm, attention, PReLU, GELU) has its plain gradient, and an output without
    any positive contribution has nowhere to send its own.

    The copy's embeddings are the model's, a `flax.nnx` module; its derivatives are for explaining,
    not for training. A subclass of `nnx.Conv` or `nnx.Linear` must be linear in its kernel. The
    copy has subclasses of the model's layers, under the same names.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import fam_jax
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        ...     def __call__(self, images):
        ...         return nnx.relu(self.conv(images)).mean((1, 2))
        >>> encode = fam_jax.capture(fam_jax.relevance(Net(nnx.Rngs(0))), at="conv")
        >>> enc = encode(jnp.ones((1, 8, 8, 3)))
        >>> maps = fam_jax.decomposition()(enc, enc.embeddings)  # with itself: the cosine is 1
        >>> round(float(maps.sum()), 4)
        1.0

    Source: Bach et al.: Pixel-Wise Explanations by Layer-Wise Relevance Propagation, PLOS ONE 2015.
    """
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise TypeError(f"model: expected a flax.nnx module, got {type(model).__name__}")
    copy: Any = nnx.clone(model)  # new variables around the same arrays
    kinds = nnx.Conv | nnx.Linear | nnx.BatchNorm
    layers = [layer for _, layer in nnx.iter_modules(copy) if isinstance(layer, kinds)]
    if not layers:
        raise ValueError(
            f"model: {type(model).__name__} has no nnx.Conv, nnx.Linear or nnx.BatchNorm, and "
            "there are no rules for other layers"
        )
    for layer in layers:
        if getattr(type(layer), "_changed_by", None) is not _of_convolutions:  # else it is one
            layer.__class__ = _with_rule(type(layer), isinstance(layer, nnx.BatchNorm))
    return copy


@lru_cache  # one class for each kind: two copies of a model share their compilations
def _with_rule(kind: type, passes_whole: bool) -> type:
    """A subclass of a layer's class whose call carries relevance; any instance may take it on."""

    def __call__(self, x, *args, **kwargs):  # noqa: N807
        y = kind.__call__(self, x, *args, **kwargs)
        return carry(y, x if passes_whole else _positive(kind, self, x))

    return with_call(kind, __call__, _changed_by=_of_convolutions)


def _positive(kind: type, layer: Any, x: Array) -> Array:
    """W+ x+ + W- x-, by the layer's own call with the parts of its kernel for a kernel."""
    from flax import nnx

    def with_kernel(part: Any) -> Any:
        twin = nnx.clone(layer)
        twin.__class__ = kind
        twin.kernel[...] = part(twin.kernel[...], 0)
        if twin.bias is not None:
            twin.bias[...] = jnp.zeros_like(twin.bias[...])
        return twin

    # Compared with 0, not clipped: at a tie jnp.minimum would give half of the gradient.
    above = with_kernel(jnp.maximum)(jnp.where(x < 0, 0, x))
    return above + with_kernel(jnp.minimum)(jnp.where(x < 0, x, 0))


def relevance_cam(similarity: Similarity = cosine) -> Method:
    """Relevance-CAM: sum_k w_k A_k, w_k = mean_hw (A_k pullback(v)_k), v_d = share_d / z_d.

    `encode(images, method)`, and whatever explains with the method, reads the network, which must
    not be a transformer, as `relevance(model)` does; with an ordinary pullback, of an encoder of
    two functions, channels are weighted by gradient times activation. The paper starts from a
    classifier, contrastively: `dot` with the row of the class less the mean of the others.
    Arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]]))
        >>> fam_jax.relevance_cam(fam_jax.dot)(enc, jnp.array([[2.0, -4.0]])).tolist()
        [[[8.0, -16.0]]]

    Source: Lee et al.: Relevance-CAM: Your Model Already Knows Where to Look, CVPR 2021.
    """
    method = pullback_method(similarity, share_per_unit, _relevance_mean)
    return replace(method, network=_of_convolutions)


def _relevance_mean(G: Array, A: Array) -> Sum:
    R = G * A
    return weighted(jnp.mean(R, axis=space(R)), A, jnp.mean(jnp.abs(R), axis=space(R)))


def _of_convolutions(model: Model) -> Model:
    """`relevance(model)`, unless it is a transformer: attention has no rule."""
    if attention_among(frameworks.layers(model)):
        raise ValueError(
            f"this method is for convolutional networks: {type(model).__name__} has attention, for "
            "which there is no rule (capture(relevance(model), at=...) takes it all the same)"
        )
    return relevance(model)
