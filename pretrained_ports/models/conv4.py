"""Conv-4, the four-block network of few-shot learning.

Vinyals et al., "Matching Networks for One Shot Learning" (2016); Snell et al., "Prototypical
Networks for Few-shot Learning" (2017).
"""

from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import as_input, batch_norm, conv, max_pool
from pretrained_ports.models.network import Network


class ConvBlock(nnx.Module):
    """3x3 convolution, batch norm, ReLU, 2x2 maximum: [b h w inputs] -> [b h//2 w//2 width]."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike):
        self.conv = conv(inputs, width, 3, bias=True, rngs=rngs, param_dtype=param_dtype)
        self.bn = batch_norm(width, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        return max_pool(nnx.relu(self.bn(self.conv(x))), 2, stride=2)


class Conv4(Network):
    """Four blocks and a head: images [b H W c] -> [b d], d = (H//16) (W//16) width when flattened.

    Blocks are at "block1" ... "block4".

    Args:
        in_channels: 3 for colour, 1 for grey.
        width: Channels of every block.
        head: "flatten" keeps every cell of the map, channel by channel as PyTorch lays it out, so
            that an embedding equals the original's number for number; "pool" takes the mean.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Raises:
        ValueError: Another `head`.

    Examples:
        >>> model = Conv4(in_channels=1, rngs=nnx.Rngs(0))
        >>> model.eval()
        >>> model(jnp.zeros((2, 28, 28, 1))).shape
        (2, 64)
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        head: Literal["flatten", "pool"] = "flatten",
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        if head not in ("flatten", "pool"):
            raise ValueError(f"head must be 'flatten' or 'pool', got {head!r}")
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.block1 = ConvBlock(in_channels, width, **init)
        self.block2 = ConvBlock(width, width, **init)
        self.block3 = ConvBlock(width, width, **init)
        self.block4 = ConvBlock(width, width, **init)
        self.head = head

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, in_channels], or is smaller than 16 x 16.
        """
        x = as_input(images, like=self.block1.conv, smallest=16)
        x = self.block1(x)
        x = self.block2(x)
        x = self.block3(x)
        x = self.block4(x)
        if self.head == "pool":
            return x.mean((1, 2))
        return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
