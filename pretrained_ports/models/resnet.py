"""ResNet for 224-pixel photographs: 18, 34, 50, 101, 152, and the wide and grouped variants.

He et al., "Deep Residual Learning for Image Recognition" (2016), with the stride of a bottleneck on
its 3x3 convolution ("v1.5"), as in torchvision and timm.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, as_input, batch_norm, conv, max_pool
from pretrained_ports.models.network import Network


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions: [b h w inputs] -> [b h/stride w/stride width]."""

    expansion = 1

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
        self.conv1 = conv(inputs, width, 3, stride=stride, **init)
        self.bn1 = batch_norm(width, **init)
        self.conv2 = conv(width, width, 3, **init)
        self.bn2 = batch_norm(width, **init)
        self.downsample = _shortcut(inputs, width, stride, **init)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + self.downsample(x))


class Bottleneck(nnx.Module):
    """1x1, 3x3, 1x1 convolutions: [b h w inputs] -> [b h/stride w/stride 4*width]."""

    expansion = 4

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        *,
        groups: int = 1,
        width_per_group: int = 64,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        inner = width * width_per_group // 64 * groups
        outputs = width * self.expansion
        self.conv1 = conv(inputs, inner, 1, **init)
        self.bn1 = batch_norm(inner, **init)
        self.conv2 = conv(inner, inner, 3, stride=stride, groups=groups, **init)
        self.bn2 = batch_norm(inner, **init)
        self.conv3 = conv(inner, outputs, 1, **init)
        self.bn3 = batch_norm(outputs, **init)
        self.downsample = _shortcut(inputs, outputs, stride, **init)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nnx.relu(y + self.downsample(x))


def _shortcut(inputs: int, outputs: int, stride: int, **init) -> nnx.Module:
    """The identity (no modules) where shapes agree, else a strided 1x1 convolution."""
    if stride == 1 and inputs == outputs:
        return Stage()
    return Stage([conv(inputs, outputs, 1, stride=stride, **init), batch_norm(outputs, **init)])


class Variant(NamedTuple):
    """One row of `VARIANTS`: the block, blocks per stage, and the block's own options."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]
    options: dict[str, int]


VARIANTS = {
    "resnet18": Variant(BasicBlock, (2, 2, 2, 2), {}),
    "resnet34": Variant(BasicBlock, (3, 4, 6, 3), {}),
    "resnet50": Variant(Bottleneck, (3, 4, 6, 3), {}),
    "resnet101": Variant(Bottleneck, (3, 4, 23, 3), {}),
    "resnet152": Variant(Bottleneck, (3, 8, 36, 3), {}),
    "wide_resnet50_2": Variant(Bottleneck, (3, 4, 6, 3), {"width_per_group": 128}),
    "resnext50_32x4d": Variant(Bottleneck, (3, 4, 6, 3), {"groups": 32, "width_per_group": 4}),
}


class ResNet(Network):
    """A residual network without its classifier: images [b H W 3] -> mean of layer4 [b d].

    Stages are at "layer1" ... "layer4", blocks at "layer4.2", layers at "layer4.2.conv3". A
    projection head, where one is kept, is at "head", and its output is the embedding.

    Args:
        variant: A name in `VARIANTS`.
        rngs: Random numbers for the initial weights (normal, variance 2 / fan-out).
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> def embed(images):
        ...     model = ResNet("resnet18", rngs=nnx.Rngs(0))
        ...     model.eval()
        ...     return model(images)
        >>> nnx.eval_shape(embed, jnp.zeros((2, 32, 48, 3))).shape
        (2, 512)
    """

    def __init__(self, variant: str, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        block, depths, options = VARIANTS[variant]
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = conv(3, 64, 7, stride=2, **init)
        self.bn1 = batch_norm(64, **init)

        def stage(inputs: int, width: int, depth: int, stride: int) -> nnx.Module:
            first = block(inputs, width, stride, **options, **init)
            outputs = width * block.expansion
            rest = [block(outputs, width, **options, **init) for _ in range(depth - 1)]
            return Stage([first, *rest])

        expansion = block.expansion
        self.layer1 = stage(64, 64, depths[0], stride=1)
        self.layer2 = stage(64 * expansion, 128, depths[1], stride=2)
        self.layer3 = stage(128 * expansion, 256, depths[2], stride=2)
        self.layer4 = stage(256 * expansion, 512, depths[3], stride=2)
        self.head = Stage()

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3].
        """
        x = as_input(images, like=self.conv1)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = max_pool(x, 3, stride=2, padding=1)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        return self.head(x.mean((1, 2)))
