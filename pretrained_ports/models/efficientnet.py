"""EfficientNet B0 to B4 and Lite0 to Lite4: inverted bottlenecks, scaled in width and depth.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019). Lite
(https://github.com/tensorflow/tpu, efficientnet/lite) leaves out squeeze-and-excitation, takes
ReLU6 for SiLU, and scales neither the stem, the head nor the depth of the first and last stage.
Layers are named as in timm.
"""

from math import ceil
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.inverted_bottleneck import (
    Block,
    Origin,
    SqueezeExcite,
    layers,
    rounded,
)
from pretrained_ports.models.layers import Stage, as_input, conv
from pretrained_ports.models.network import Network


class Variant(NamedTuple):
    """One row of `VARIANTS`: how many times as wide and as deep as B0, and whether it is Lite."""

    width: float
    depth: float
    lite: bool = False


VARIANTS = {
    "b0": Variant(1.0, 1.0),
    "b1": Variant(1.0, 1.1),
    "b2": Variant(1.1, 1.2),
    "b3": Variant(1.2, 1.4),
    "b4": Variant(1.4, 1.8),
    "lite0": Variant(1.0, 1.0, lite=True),
    "lite1": Variant(1.0, 1.1, lite=True),
    "lite2": Variant(1.1, 1.2, lite=True),
    "lite3": Variant(1.2, 1.4, lite=True),
    "lite4": Variant(1.4, 1.8, lite=True),
}

# Stages of B0: blocks, kernel, stride, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def depths(variant: str) -> tuple[int, ...]:
    """Blocks in each stage.

    Examples:
        >>> depths("b0"), depths("lite1")
        ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1))
    """
    _, depth, lite = VARIANTS[variant]
    last = len(_STAGES) - 1
    return tuple(
        blocks if lite and i in (0, last) else ceil(blocks * depth)
        for i, (blocks, *_) in enumerate(_STAGES)
    )


class EfficientNet(Network):
    """An EfficientNet without its classifier: images [b H W 3] -> mean of "bn2" [b d].

    Stages are at "blocks.0" ... "blocks.6", blocks at "blocks.4.2", their layers at
    "blocks.4.2.conv_dw"; "bn2" is the last map, normalised and activated, whose mean is the
    embedding.

    Args:
        variant: A name in `VARIANTS`.
        origin: Where the weights were trained: "tensorflow" pads strided convolutions at the end
            ("SAME") and adds 1e-3 to variances, "pytorch" pads both sides and adds 1e-5.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> def embed(images):
        ...     model = EfficientNet("lite0", rngs=nnx.Rngs(0))
        ...     model.eval()
        ...     return model(images)
        >>> nnx.eval_shape(embed, jnp.zeros((1, 32, 48, 3))).shape
        (1, 1280)
    """

    def __init__(
        self,
        variant: str,
        origin: Origin = "tensorflow",
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        width, _, lite = VARIANTS[variant]
        init = {"rngs": rngs, "param_dtype": param_dtype}
        made = layers(origin, **init)
        activation = nnx.relu6 if lite else nnx.silu

        def block(inputs: int, outputs: int, size: int, stride: int, expansion: int) -> Block:
            inner = inputs * expansion
            gate = None if lite else SqueezeExcite(inner, inputs // 4, **init)
            options = {"made": made, "activation": activation, "gate": gate, **init}
            return Block(inputs, inner, outputs, size, stride, **options)

        stem = 32 if lite else rounded(32 * width)
        self.conv_stem = made.conv(3, stem, 3, stride=2)
        self.bn1 = made.norm(stem, activation=activation)
        self.blocks, inputs = Stage(), stem
        for row, blocks in zip(_STAGES, depths(variant), strict=True):
            _, size, stride, expansion, base = row
            outputs = rounded(base * width)
            first = block(inputs, outputs, size, stride, expansion)
            rest = [block(outputs, outputs, size, 1, expansion) for _ in range(blocks - 1)]
            self.blocks.append(Stage([first, *rest]))
            inputs = outputs
        head = 1280 if lite else rounded(1280 * width)
        self.conv_head = conv(inputs, head, 1, **init)
        self.bn2 = made.norm(head, activation=activation)

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3].
        """
        x = self.bn1(self.conv_stem(as_input(images, like=self.conv_stem)))
        return self.bn2(self.conv_head(self.blocks(x))).mean((1, 2))
