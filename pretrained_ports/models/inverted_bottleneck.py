"""The block of MobileNet-v3 and EfficientNet: wide inside, narrow between; named as in timm.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, batch_norm, conv

Origin = Literal["tensorflow", "pytorch", "torchvision"]
Activation = Callable[[Array], Array]

# What is added to variances.
_EPSILON: dict[Origin, float] = {"tensorflow": 1e-3, "pytorch": 1e-5, "torchvision": 1e-3}


class Layers(NamedTuple):
    """What convolutions that may have strides, and batch norms, are made with."""

    conv: Callable[..., nnx.Conv]
    norm: Callable[..., nnx.BatchNorm]


def layers(origin: Origin, *, rngs: nnx.Rngs, param_dtype: DTypeLike) -> Layers:
    """Layers as the weights were trained: "tensorflow" pads strided ones at the end ("SAME")."""
    init = {"rngs": rngs, "param_dtype": param_dtype}

    def padded(*args, stride: int, **options) -> nnx.Conv:
        same = stride > 1 and origin == "tensorflow"
        padding = "SAME" if same else None
        return conv(*args, stride=stride, padding=padding, **options, **init)

    return Layers(padded, partial(batch_norm, epsilon=_EPSILON[origin], **init))


def rounded(channels: float) -> int:
    """The nearest multiple of 8, at most a tenth below `channels`.

    Examples:
        >>> rounded(17.6), rounded(18.0)
        (16, 24)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class SqueezeExcite(nnx.Module):
    """Channels times a gate that their means give: x gate(expand(act(reduce(mean_hw x))))."""

    def __init__(
        self,
        channels: int,
        reduced: int,
        act: Activation = nnx.silu,
        gate: Activation = nnx.sigmoid,
        **init,
    ):
        self.conv_reduce = conv(channels, reduced, 1, bias=True, **init)
        self.conv_expand = conv(reduced, channels, 1, bias=True, **init)
        self.act, self.gate = act, gate

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Apply the gate."""
        reduced = self.act(self.conv_reduce(x.mean((1, 2), keepdims=True)))
        return x * self.gate(self.conv_expand(reduced))


class Block(nnx.Module):
    """Convolution of each channel, 1x1 to `outputs`; the input is added where shapes agree.

    Where there are more channels inside, a 1x1 convolution before them makes these ("conv_pw", and
    the last one is "conv_pwl"); elsewhere the last one is "conv_pw". "se" is the gate, if any.
    """

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        size: int,
        stride: int,
        *,
        made: Layers,
        activation: Activation,
        gate: nnx.Module | None = None,
        **init,
    ):
        layers = [
            made.conv(inner, inner, size, stride=stride, groups=inner),
            made.norm(inner, activation=activation),
            gate or Stage(),
            conv(inner, outputs, 1, **init),
            made.norm(outputs),
        ]
        self.order = ("conv_dw", "bn1", "se", "conv_pw", "bn2")
        if inner > inputs:
            expanded = [conv(inputs, inner, 1, **init), made.norm(inner, activation=activation)]
            layers = [*expanded, *layers]
            self.order = ("conv_pw", "bn1", "conv_dw", "bn2", "se", "conv_pwl", "bn3")
        for name, layer in zip(self.order, layers, strict=True):
            setattr(self, name, layer)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        y = x
        for name in self.order:
            y = getattr(self, name)(y)
        return x + y if self.residual else y
