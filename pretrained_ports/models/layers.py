"""The few layers that the convolutional families share, with PyTorch's padding and constants."""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

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
    padding: int | Literal["SAME"] | None = None,
) -> nnx.Conv:
    """A square convolution, padded by (size - 1) / 2 on every side unless told otherwise.

    "SAME" pads a strided convolution more at the end: TensorFlow's way, which in a network that
    was trained otherwise shifts the map by a pixel.
    """
    padding = size // 2 if padding is None else padding
    kind = nnx.Conv
    if (size, groups, padding) == (1, 1, 0):
        kind = Pointwise
    elif groups == inputs == outputs > 1:
        kind = Depthwise
    elif (groups, padding, stride) == (1, 0, size):
        kind = Patches
    elif (size, groups, padding) == (3, 1, 1) and inputs >= 256:
        kind = Wide
    return kind(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding=padding,
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=_KAIMING,
        param_dtype=param_dtype,
        rngs=rngs,
    )


class Pointwise(nnx.Conv):
    """A 1x1 convolution as the matrix product that it is, [b h w c] -> [b h/stride w/stride d].

    XLA's convolution takes 1.3 to 2 times as long on a processor.
    """

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Apply the layer."""
        x = x[:, :: self.strides, :: self.strides] @ self.kernel[0, 0]
        return x if self.bias is None else x + self.bias[...].reshape(1, 1, 1, -1)


class Patches(nnx.Conv):
    """A convolution whose stride p is its size, [b h w c] -> [b h/p w/p d], as one product.

    What is left of the sides, at the end, is cut off.
    """

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Apply the layer."""
        b, height, width, c = x.shape
        p, d = self.kernel.shape[0], self.kernel.shape[-1]
        h, w = height // p, width // p
        # One axis at a time: of more jax cannot tell how they lie on an explicit mesh.
        x = x[:, : h * p, : w * p].reshape(b, h, p, w * p, c).reshape(b, h, p, w, p, c)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, p * p * c) @ self.kernel[...].reshape(
            -1, d
        )
        return x if self.bias is None else x + self.bias[...].reshape(1, 1, 1, d)


class Wide(nnx.Conv):
    """A 3x3 convolution of many channels, [b h w c] -> [b h/stride w/stride d].

    On small maps one matrix product with the nine shifted maps side by side. XLA's convolution
    takes 1.2 to 2.4 times as long on a processor, 10 to 60 times if a map is smaller than 3 x 3.
    """

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Apply the layer."""
        step = self.strides
        assert isinstance(step, int)
        h, w = (-(-side // step) for side in x.shape[1:3])
        if max(h, w) > 8:
            return super().__call__(x)
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        down, right = step * (h - 1) + 1, step * (w - 1) + 1
        shifted = [x[:, i : i + down : step, j : j + right : step] for i, j in np.ndindex(3, 3)]
        x = jnp.concatenate(shifted, -1) @ self.kernel[...].reshape(-1, self.out_features)
        return x if self.bias is None else x + self.bias[...].reshape(1, 1, 1, -1)


class Depthwise(nnx.Conv):
    """A convolution of every channel by itself, [b h w c] -> [b h/stride w/stride c].

    The sum of the shifted maps, each times its weights. XLA's convolution takes 6 to 60 times as
    long on a processor.
    """

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """Apply the layer."""
        size, step, padding = self.kernel_size[0], self.strides, self.padding
        assert isinstance(size, int)
        assert isinstance(step, int)
        if padding == "SAME":
            missing = [max((-(-side // step) - 1) * step + size - side, 0) for side in x.shape[1:3]]
            edges = [(n // 2, n - n // 2) for n in missing]
        else:
            assert isinstance(padding, int)
            edges = [(padding, padding)] * 2
        x = jnp.pad(x, ((0, 0), *edges, (0, 0)))
        down, right = (side - size + 1 for side in x.shape[1:3])
        kernel = self.kernel[...]
        shifted = (
            x[:, i : i + down : step, j : j + right : step] * kernel[i : i + 1, j : j + 1]
            for i, j in np.ndindex(size, size)
        )
        x = reduce(jnp.add, shifted)
        return x if self.bias is None else x + self.bias[...].reshape(1, 1, 1, -1)


class ActivatedNorm(nnx.BatchNorm):
    """Batch normalisation and the activation behind it, as one layer."""

    activation: Callable[[Array], Array]

    def __call__(self, x: Float[Array, "*b c"], **options: Any) -> Float[Array, "*b c"]:
        """Apply both."""
        return self.activation(super().__call__(x, **options))


def batch_norm(
    features: int,
    *,
    affine: bool = True,
    epsilon: float = 1e-5,
    activation: Callable[[Array], Array] | None = None,
    rngs: nnx.Rngs,
    param_dtype: DTypeLike,
) -> nnx.BatchNorm:
    """Batch normalisation with PyTorch's constants; flax's momentum is 1 - PyTorch's."""
    norm = (ActivatedNorm if activation else nnx.BatchNorm)(
        features,
        epsilon=epsilon,
        momentum=0.9,
        use_scale=affine,
        use_bias=affine,
        param_dtype=param_dtype,
        rngs=rngs,
    )
    # flax keeps these in float32 whatever param_dtype; strict promotion needs one type throughout
    norm.mean = nnx.BatchStat(norm.mean[...].astype(param_dtype))
    norm.var = nnx.BatchStat(norm.var[...].astype(param_dtype))
    if isinstance(norm, ActivatedNorm) and activation:
        norm.activation = activation
    return norm


def max_pool(x: Array, size: int, stride: int, padding: int = 0) -> Array:
    """Maximum over windows of an NHWC map, padded with -inf on every side.

    Columns, then rows: a quarter of the time of both at once, and the same numbers.
    """
    edge, none = (padding, padding), (0, 0)
    # Any: flax declares a string, and takes these as well.
    max_pool: Any = nnx.max_pool
    x = max_pool(x, (size, 1), strides=(stride, 1), padding=(edge, none))
    return max_pool(x, (1, size), strides=(1, stride), padding=(none, edge))


class PReLU(nnx.Module):
    """max(x, 0) + slope min(x, 0) with a slope per channel, [... c] -> [... c].

    He et al., "Delving Deep into Rectifiers" (2015).

    Examples:
        >>> PReLU(2)(jnp.array([[-4.0, 4.0]])).tolist()
        [[-1.0, 4.0]]
    """

    def __init__(self, features: int, *, param_dtype: DTypeLike = jnp.float32):
        self.slope = nnx.Param(jnp.full(features, 0.25, param_dtype))

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Apply the layer."""
        slope = self.slope[...].reshape((1,) * (x.ndim - 1) + (-1,))
        return jnp.where(x < 0, slope * x, x)


class Stage(nnx.List):
    """Modules applied one after the other; "layer4" is the stage, "layer4.2" its third block.

    Examples:
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

    @property
    def is_identity(self) -> bool:
        """Whether it passes on what it gets and nobody looks: empty, its class not exchanged."""
        return type(self) is Stage and not len(self)


def beside(rows: Array, images: Array) -> Array:
    """Rows [b ...] that are to stand beside those of images: on the devices where these lie.

    Only the axes of an explicit mesh ask for it.
    """
    sharding = jax.typeof(images).sharding
    return jax.sharding.reshard(rows, sharding) if any(sharding.spec) else rows


def flatten(x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
    """Every cell of a map, channel by channel: the order in which PyTorch lays it out."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def as_input(images: Any, like: nnx.Conv, smallest: int = 1, only: int | None = None) -> Array:
    """Images as the first convolution `like` needs them: checked, in its parameters' type.

    Raises:
        ValueError: Not [b H W c], another number of channels, fewer than `smallest` pixels, or
            not the `only` size that the head takes.
    """
    shape = jnp.shape(images)
    channels = like.in_features
    if len(shape) != 4 or shape[-1] != channels:
        raise ValueError(f"images must be [b, H, W, {channels}], got shape {list(shape)}")
    if min(shape[1:3]) < smallest:
        raise ValueError(
            f"images must be at least {smallest} x {smallest} pixels, got {shape[1]} x {shape[2]}"
        )
    if only is not None and shape[1:3] != (only, only):
        raise ValueError(
            f"images must be {only} x {only} pixels, got {shape[1]} x {shape[2]}: the head has a "
            "weight for every cell of the last map"
        )
    return jnp.asarray(images, like.kernel.dtype)
