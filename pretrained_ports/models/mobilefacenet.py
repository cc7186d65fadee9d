"""MobileFaceNet, the small face network, for faces of 112 x 112 pixels.

Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile
Devices" (2018), in the wider form (0.45 GFLOPs, 512 dimensions) that
https://github.com/deepinsight/insightface (arcface_torch) trains, and named as there.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import PReLU, Stage, as_input, batch_norm, conv, flatten
from pretrained_ports.models.network import Network


class LinearBlock(nnx.Module):
    """Convolution and norm, at "layers.0" and "layers.1"."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, *, rngs, param_dtype, **options):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        first = conv(inputs, outputs, size, **options, **init)
        self.layers = Stage([first, batch_norm(outputs, **init)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        return self.layers(x)


class ConvBlock(LinearBlock):
    """Convolution, norm and PReLU, the last at "layers.2"."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, *, rngs, param_dtype, **options):
        super().__init__(inputs, outputs, size, rngs=rngs, param_dtype=param_dtype, **options)
        self.layers.append(PReLU(outputs, param_dtype=param_dtype))


class DepthWise(nnx.Module):
    """1x1 to `inner` channels, 3x3 on each of them, 1x1 to `outputs`: an inverted bottleneck.

    With stride 1 the input is added.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, **init):
        self.layers = Stage(
            [
                ConvBlock(inputs, inner, **init),
                ConvBlock(inner, inner, 3, stride=stride, groups=inner, **init),
                LinearBlock(inner, outputs, **init),
            ]
        )
        self.residual = stride == 1

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        y = self.layers(x)
        return x + y if self.residual else y


class Residual(nnx.Module):
    """`depth` bottlenecks of one width, at "layers.0", "layers.1", ..."""

    def __init__(self, depth: int, width: int, inner: int, **init):
        self.layers = Stage([DepthWise(width, inner, width, 1, **init) for _ in range(depth)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply every bottleneck."""
        return self.layers(x)


class Head(nnx.Module):
    """The embedding layer: each channel's own 7x7 weights, a linear map, a norm; [b 512]."""

    def __init__(self, *, rngs: nnx.Rngs, param_dtype: DTypeLike):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.layers = Stage(
            [
                LinearBlock(512, 512, 7, padding=0, groups=512, **init),
                flatten,
                nnx.Linear(512, 512, use_bias=False, **init),
                batch_norm(512, **init),
            ]
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        """Apply the layer."""
        return self.layers(x)


class MobileFaceNet(Network):
    """A face network with its embedding layer: images [b 112 112 3] -> embeddings [b 512].

    Stages are at "layers.0" ... "layers.7"; "conv_sep" is the map of 7 x 7 cells that enters the
    embedding layer "features". From there on the network is linear but for a constant (the
    embedding of a map of zeros), so `fam_jax.decomposition` at "conv_sep" splits the similarity
    less the constant's part.

    Args:
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> model = nnx.eval_shape(lambda: MobileFaceNet(rngs=nnx.Rngs(0)))
        >>> model.features.layers[2].kernel.shape
        (512, 512)
    """

    def __init__(self, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.layers = Stage(
            [
                ConvBlock(3, 128, 3, stride=2, **init),
                ConvBlock(128, 128, 3, groups=64, **init),  # two channels a group, as released
                DepthWise(128, 128, 128, stride=2, **init),
                Residual(4, 128, inner=128, **init),
                DepthWise(128, 256, 256, stride=2, **init),
                Residual(6, 256, inner=256, **init),
                DepthWise(256, 512, 256, stride=2, **init),
                Residual(2, 256, inner=256, **init),
            ]
        )
        self.conv_sep = ConvBlock(256, 512, **init)
        self.features = Head(**init)

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised, aligned faces; embeddings are compared by their cosine.

        Raises:
            ValueError: `images` is not [b, 112, 112, 3].
        """
        x = as_input(images, like=self.layers[0].layers[0], only=112)
        return self.features(self.conv_sep(self.layers(x)))
