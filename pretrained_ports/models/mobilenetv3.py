"""MobileNet-v3, small and large: inverted bottlenecks, some gated, half of them hard-swish.

Howard et al., "Searching for MobileNetV3" (2019). Layers are named as in timm.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.inverted_bottleneck import (
    Activation,
    Block,
    Layers,
    Origin,
    SqueezeExcite,
    layers,
    rounded,
)
from pretrained_ports.models.layers import Stage, as_input, conv
from pretrained_ports.models.network import Network


class Row(NamedTuple):
    """The blocks of one stage.

    Attributes:
        size: Of the convolutions of each channel.
        stride: Of the first block.
        channels: That come out.
        expansions: For every block, how many times as many channels there are inside.
        gated: Whether there is squeeze-and-excitation.
        act: The activation.
    """

    size: int
    stride: int
    channels: int
    expansions: tuple[float, ...]
    gated: bool
    act: Activation


STAGES = {
    "large": (
        Row(3, 1, 16, (1.0,), gated=False, act=nnx.relu),
        Row(3, 2, 24, (4.0, 3.0), gated=False, act=nnx.relu),
        Row(5, 2, 40, (3.0, 3.0, 3.0), gated=True, act=nnx.relu),
        Row(3, 2, 80, (6.0, 2.5, 2.3, 2.3), gated=False, act=nnx.hard_swish),
        Row(3, 1, 112, (6.0, 6.0), gated=True, act=nnx.hard_swish),
        Row(5, 2, 160, (6.0, 6.0, 6.0), gated=True, act=nnx.hard_swish),
    ),
    "small": (
        Row(3, 2, 16, (1.0,), gated=True, act=nnx.relu),
        Row(3, 2, 24, (4.5, 3.67), gated=False, act=nnx.relu),
        Row(5, 2, 40, (4.0, 6.0, 6.0), gated=True, act=nnx.hard_swish),
        Row(5, 1, 48, (3.0, 3.0), gated=True, act=nnx.hard_swish),
        Row(5, 2, 96, (6.0, 6.0, 6.0), gated=True, act=nnx.hard_swish),
    ),
}
_EMBEDDING = {"large": 1280, "small": 1024}


class LastMap(nnx.Module):
    """A 1x1 convolution, its norm and hard-swish."""

    def __init__(self, inputs: int, outputs: int, made: Layers, **init):
        self.conv = conv(inputs, outputs, 1, **init)
        self.bn1 = made.norm(outputs, activation=nnx.hard_swish)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Apply the layers."""
        return self.bn1(self.conv(x))


class MobileNetV3(Network):
    """A MobileNet-v3 without its classifier: images [b H W 3] -> hard_swish("conv_head") [b d].

    Stages are at "blocks.0" ..., blocks at "blocks.2.1", their layers at "blocks.2.1.conv_dw". The
    last of "blocks" is the last map, "blocks.6" of the large one and "blocks.5" of the small one;
    "conv_head" works on its mean, so that the embedding, which is what enters the classifier, is
    not linear in it.

    Args:
        variant: "large" or "small".
        width: How many times as many channels there are.
        origin: Where the weights were trained: "tensorflow" pads strided convolutions at the end
            ("SAME") and adds 1e-3 to variances, "pytorch" pads both sides and adds 1e-5,
            "torchvision" pads both sides and adds 1e-3.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> def embed(images):
        ...     model = MobileNetV3("small", rngs=nnx.Rngs(0))
        ...     model.eval()
        ...     return model(images)
        >>> nnx.eval_shape(embed, jnp.zeros((1, 32, 48, 3))).shape
        (1, 1024)
    """

    def __init__(
        self,
        variant: str,
        width: float = 1.0,
        origin: Origin = "tensorflow",
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        made = layers(origin, **init)

        def block(inputs: int, outputs: int, row: Row, stride: int, expansion: float) -> Block:
            inner, gate = rounded(inputs * expansion), None
            if row.gated:
                gate = SqueezeExcite(inner, rounded(inner / 4), nnx.relu, nnx.hard_sigmoid, **init)
            options = {"made": made, "activation": row.act, "gate": gate, **init}
            return Block(inputs, inner, outputs, row.size, stride, **options)

        inputs = rounded(16 * width)
        self.conv_stem = made.conv(3, inputs, 3, stride=2)
        self.bn1 = made.norm(inputs, activation=nnx.hard_swish)
        self.blocks = Stage()
        for row in STAGES[variant]:
            outputs, stage = rounded(row.channels * width), Stage()
            for i, expansion in enumerate(row.expansions):
                stage.append(block(inputs, outputs, row, 1 if i else row.stride, expansion))
                inputs = outputs
            self.blocks.append(stage)
        self.blocks.append(Stage([LastMap(inputs, 6 * inputs, made, **init)]))
        self.conv_head = conv(6 * inputs, _EMBEDDING[variant], 1, bias=True, **init)

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3].
        """
        x = self.blocks(self.bn1(self.conv_stem(as_input(images, like=self.conv_stem))))
        x = nnx.hard_swish(self.conv_head(x.mean((1, 2), keepdims=True)))
        return x[:, 0, 0]
