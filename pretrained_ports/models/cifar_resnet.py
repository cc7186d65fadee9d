"""ResNet for 32-pixel images: 20, 32, 44, 56, 110 layers.

He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.2.
"""

from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, as_input, batch_norm, conv
from pretrained_ports.models.network import Network


class Block(nnx.Module):
    """Two 3x3 convolutions: [b h w inputs] -> [b h/stride w/stride width]."""

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        shortcut: Literal["A", "B"] = "A",
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = conv(inputs, width, 3, stride=stride, **init)
        self.bn1 = batch_norm(width, **init)
        self.conv2 = conv(width, width, 3, **init)
        self.bn2 = batch_norm(width, **init)
        if stride == 1 and inputs == width:
            self.shortcut = Stage()
        elif shortcut == "A":
            self.shortcut = Subsample(stride, (width - inputs) // 2)
        else:
            projection = conv(inputs, width, 1, stride=stride, **init)
            self.shortcut = Stage([projection, batch_norm(width, **init)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + self.shortcut(x))


class Subsample(nnx.Module):
    """Shortcut "A": every stride-th pixel, with zero channels added on both sides."""

    def __init__(self, stride: int, padding: int):
        self.stride = stride
        self.padding = padding

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the shortcut."""
        x = x[:, :: self.stride, :: self.stride, :]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.padding, self.padding)))


class CifarResNet(Network):
    """A CIFAR residual network without its classifier: images [b H W 3] -> mean of layer3 [b 64].

    Stages are at "layer1" ... "layer3", blocks at "layer3.2". A projection head, where one is kept,
    is at "head", and its output is the embedding.

    Args:
        depth: Layers with weights, 6 n + 2: 20, 32, 44, 56 or 110.
        shortcut: Where the width changes: "A" has no parameters, "B" is a 1x1 convolution and a
            norm.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Raises:
        ValueError: `depth` is not 6 n + 2, or another `shortcut`.

    Examples:
        >>> model = CifarResNet(20, rngs=nnx.Rngs(0))
        >>> model.eval()
        >>> model(jnp.zeros((2, 32, 32, 3))).shape
        (2, 64)
    """

    def __init__(
        self,
        depth: int,
        shortcut: Literal["A", "B"] = "A",
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth must be 6 n + 2 (20, 32, 44, 56, 110), got {depth}")
        if shortcut not in ("A", "B"):
            raise ValueError(f"shortcut must be 'A' or 'B', got {shortcut!r}")
        blocks = (depth - 2) // 6
        init = {"rngs": rngs, "param_dtype": param_dtype}

        def stage(inputs: int, width: int, stride: int) -> nnx.Module:
            first = Block(inputs, width, stride, shortcut, **init)
            return Stage([first, *(Block(width, width, **init) for _ in range(blocks - 1))])

        self.conv1 = conv(3, 16, 3, **init)
        self.bn1 = batch_norm(16, **init)
        self.layer1 = stage(16, 16, stride=1)
        self.layer2 = stage(16, 32, stride=2)
        self.layer3 = stage(32, 64, stride=2)
        self.head = Stage()

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3].
        """
        x = as_input(images, like=self.conv1)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        return self.head(x.mean((1, 2)))
