"""Wide residual networks for small images, as few-shot learning uses them: WRN-28-10.

Zagoruyko, Komodakis, "Wide Residual Networks" (2016); for few-shot learning Mangla et al.,
"Charting the Right Manifold" (S2M2, 2020). Dropout acts in training only and is left out.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, as_input, batch_norm, conv
from pretrained_ports.models.network import Network


class Block(nnx.Module):
    """Norm and ReLU before each of two 3x3 convolutions: [b h w inputs] -> [b h2 w2 width].

    Where the width changes, the shortcut is a 1x1 convolution of the activated input; elsewhere it
    is the input itself.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.bn1 = batch_norm(inputs, **init)
        self.conv1 = conv(inputs, width, 3, stride=stride, **init)
        self.bn2 = batch_norm(width, **init)
        self.conv2 = conv(width, width, 3, **init)
        self.convShortcut = (
            None if inputs == width else conv(inputs, width, 1, stride=stride, **init)
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        active = nnx.relu(self.bn1(x))
        y = self.conv2(nnx.relu(self.bn2(self.conv1(active))))
        return y + (x if self.convShortcut is None else self.convShortcut(active))


class Group(nnx.Module):
    """Blocks one after the other, at "layer": "block3.layer.0" is the first of group 3."""

    def __init__(self, inputs: int, width: int, stride: int, depth: int, **init):
        first = Block(inputs, width, stride, **init)
        self.layer = Stage([first, *(Block(width, width, **init) for _ in range(depth - 1))])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply every block."""
        return self.layer(x)


class Variant(NamedTuple):
    """One row of `VARIANTS`: layers with weights, 6 n + 4, and the factor of the widths."""

    depth: int
    factor: int


VARIANTS = {"wrn-28-10": Variant(28, 10)}


class WideResNet(Network):
    """A wide residual network without its classifier: images [b H W 3] -> mean of relu [b d].

    Groups are at "block1" ... "block3", blocks at "block3.layer.2". The last map is normed and
    activated before its mean is taken: "relu" is that map.

    Args:
        variant: A name in `VARIANTS`.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> model = nnx.eval_shape(lambda: WideResNet("wrn-28-10", rngs=nnx.Rngs(0)))
        >>> model.bn1.scale.shape
        (640,)
    """

    def __init__(self, variant: str, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        depth, factor = VARIANTS[variant]
        blocks = (depth - 4) // 6
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = conv(3, 16, 3, **init)
        self.block1 = Group(16, 16 * factor, 1, blocks, **init)
        self.block2 = Group(16 * factor, 32 * factor, 2, blocks, **init)
        self.block3 = Group(32 * factor, 64 * factor, 2, blocks, **init)
        self.bn1 = batch_norm(64 * factor, **init)
        self.relu = Stage([nnx.relu])

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3].
        """
        x = as_input(images, like=self.conv1)
        x = self.conv1(x)
        x = self.block1(x)
        x = self.block2(x)
        x = self.block3(x)
        x = self.relu(self.bn1(x))
        return x.mean((1, 2))
