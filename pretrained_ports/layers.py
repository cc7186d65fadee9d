"""The few layers that the convolutional families share, with PyTorch's padding and constants."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

# jitted: traced once per shape, not once per layer
_KAIMING = jax.jit(
    nnx.initializers.variance_scaling(2.0, "fan_out", "normal"), static_argnums=(1, 2)
)


def conv(
    inputs: int,
    outputs: int,
    size: int,
    *,
    rngs: nnx.Rngs,
    param_dtype: DTypeLike,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nnx.Conv:
    """A square convolution padded by (size - 1) / 2 on every side.

    "SAME" would pad a strided convolution at the end only, and shift the map by a pixel.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding=size // 2,
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=_KAIMING,
        param_dtype=param_dtype,
        rngs=rngs,
    )


def batch_norm(features: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike) -> nnx.BatchNorm:
    """Batch normalisation with PyTorch's constants; flax's momentum is 1 - PyTorch's."""
    norm = nnx.BatchNorm(features, epsilon=1e-5, momentum=0.9, param_dtype=param_dtype, rngs=rngs)
    # flax keeps these in float32 whatever param_dtype; strict promotion needs one type throughout
    norm.mean = nnx.BatchStat(norm.mean[...].astype(param_dtype))
    norm.var = nnx.BatchStat(norm.var[...].astype(param_dtype))
    return norm


def max_pool(x: Array, size: int, stride: int, padding: int = 0) -> Array:
    """Maximum over windows of an NHWC map, padded with -inf on every side."""
    edge = (padding, padding)
    return nnx.max_pool(x, (size, size), strides=(stride, stride), padding=(edge, edge))


class Stage(nnx.List):
    """Modules applied one after the other; "layer4" is the stage, "layer4.2" its third block.

    Example:
        >>> stage = Stage([nnx.relu, jnp.square])
        >>> float(stage(jnp.float32(-3)))
        0.0
    """

    def __init__(self, modules: Iterable[Callable] = ()):
        super().__init__(modules)

    def __call__(self, x: Array) -> Array:
        """Apply every module in order."""
        for module in self:
            x = module(x)
        return x


def as_input(images: Any, like: nnx.Conv, smallest: int = 1) -> Array:
    """Images as the first convolution `like` needs them: checked, in its parameters' type.

    Raises:
        ValueError: Not [b H W c], another number of channels, or fewer than `smallest` pixels.
    """
    shape = jnp.shape(images)
    channels = like.in_features
    if len(shape) != 4 or shape[-1] != channels:
        raise ValueError(f"images must be [b, H, W, {channels}], got shape {list(shape)}")
    if min(shape[1:3]) < smallest:
        raise ValueError(
            f"images must be at least {smallest} x {smallest} pixels, got {shape[1]} x {shape[2]}"
        )
    return jnp.asarray(images, like.kernel.dtype)
