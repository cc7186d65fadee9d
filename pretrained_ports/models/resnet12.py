"""ResNet-12, the residual network of few-shot learning.

Lee et al., "Meta-Learning with Differentiable Convex Optimization" (2019), after Oreshkin et al.,
"TADAM" (2018). DropBlock and dropout act in training only and are left out.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, as_input, batch_norm, conv, max_pool
from pretrained_ports.models.network import Network


class Block(nnx.Module):
    """Three 3x3 convolutions, a 1x1 shortcut, 2x2 maximum: [b h w inputs] -> [b h//2 w//2 width].

    The shortcut keeps the resolution; only the maximum lowers it.
    """

    def __init__(
        self, inputs: int, width: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32
    ):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = conv(inputs, width, 3, **init)
        self.bn1 = batch_norm(width, **init)
        self.conv2 = conv(width, width, 3, **init)
        self.bn2 = batch_norm(width, **init)
        self.conv3 = conv(width, width, 3, **init)
        self.bn3 = batch_norm(width, **init)
        self.downsample = Stage([conv(inputs, width, 1, **init), batch_norm(width, **init)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        y = _leaky_relu(self.bn1(self.conv1(x)))
        y = _leaky_relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = _leaky_relu(y + self.downsample(x))
        return max_pool(y, 2, stride=2)


def _leaky_relu(x: Array) -> Array:
    return nnx.leaky_relu(x, 0.1)


VARIANTS = {
    "resnet12": (64, 160, 320, 640),
    "resnet12-512": (64, 128, 256, 512),
}


class ResNet12(Network):
    """Four blocks and their mean: images [b H W 3] -> mean of layer4 [b d], d = 640 or 512.

    Stages are at "layer1" ... "layer4", each of one block: "layer4.0".

    Args:
        variant: A name in `VARIANTS`.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> model = nnx.eval_shape(lambda: ResNet12("resnet12-512", rngs=nnx.Rngs(0)))
        >>> model.layer4[0].conv3.kernel.shape
        (3, 3, 512, 512)
    """

    def __init__(self, variant: str, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        widths = VARIANTS[variant]
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.layer1 = Stage([Block(3, widths[0], **init)])
        self.layer2 = Stage([Block(widths[0], widths[1], **init)])
        self.layer3 = Stage([Block(widths[1], widths[2], **init)])
        self.layer4 = Stage([Block(widths[2], widths[3], **init)])

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3], or is smaller than 16 x 16.
        """
        x = as_input(images, like=self.layer1[0].conv1, smallest=16)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        return x.mean((1, 2))
