"""ConvNeXt tiny, small and base: convolutions of each channel over 7 x 7, then a small MLP.

Liu et al., "A ConvNet for the 2020s" (2022). Layers are named as in timm.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, as_input, conv
from pretrained_ports.models.network import Network
from pretrained_ports.models.transformer import LayerNorm, Mlp

_EPSILON = 1e-6


class Variant(NamedTuple):
    """One row of `VARIANTS`: channels of the first stage (doubled by the next), and blocks."""

    channels: int
    depths: tuple[int, int, int, int]


VARIANTS = {
    "tiny": Variant(96, (3, 3, 9, 3)),
    "small": Variant(96, (3, 3, 27, 3)),
    "base": Variant(128, (3, 3, 27, 3)),
}


class Block(nnx.Module):
    """x + gamma mlp(norm(conv_dw(x))), [b h w c] -> [b h w c]."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv_dw = conv(channels, channels, 7, groups=channels, bias=True, **init)
        self.norm = LayerNorm(channels, _EPSILON, **init)
        self.mlp = Mlp(channels, 4 * channels, **init)
        self.gamma = nnx.Param(jnp.full(channels, 1e-6, param_dtype))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Apply the block."""
        y = self.mlp(self.norm(self.conv_dw(x)))
        return x + self.gamma[...].reshape(1, 1, 1, -1) * y


class Blocks(nnx.Module):
    """Half the map, where it is not the first stage, then blocks: -> [b h/2 w/2 channels]."""

    def __init__(self, inputs: int, channels: int, depth: int, **init):
        self.downsample = Stage()
        if inputs != channels:
            half = conv(inputs, channels, 2, stride=2, padding=0, bias=True, **init)
            self.downsample = Stage([LayerNorm(inputs, _EPSILON, **init), half])
        self.blocks = Stage(Block(channels, **init) for _ in range(depth))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the stage."""
        return self.blocks(self.downsample(x))


class NormOfMean(LayerNorm):
    """A map whose mean is the layer norm of the mean of x, [b h w c] -> [b h w c].

    (x - mean_c x) / sqrt(var_c(mean_hw x) + epsilon) scale + bias: every place under the variance
    of their mean.
    """

    def variance(self, centred: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 1"]:
        """That of the mean over all places."""
        return super().variance(centred.mean((1, 2), keepdims=True))


class Head(nnx.Module):
    """The mean of "norm": the layer norm of the mean, [b h w c] -> [b c]."""

    def __init__(self, channels: int, **init):
        self.norm = NormOfMean(channels, _EPSILON, **init)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
        """Apply the head."""
        return self.norm(x).mean((1, 2))


class ConvNeXt(Network):
    """A ConvNeXt without its classifier: images [b H W 3] -> mean of "head.norm" [b d].

    Stages are at "stages.0" ... "stages.3", blocks at "stages.2.blocks.4", their layers at
    "stages.2.blocks.4.conv_dw".

    The embedding, which is what enters the classifier, is the layer norm of the mean of
    "stages.3". That norm does not change with the length of what enters it, so that gradient times
    activation at "stages.3" sums to 0 over the map. "head.norm", the default layer, is that map
    under the norm, divided by the deviation of the mean in place of each place's own: its mean is
    the embedding, and maps sum to the score as they do behind a plain mean. In timm the same path
    gives the mean.

    Args:
        variant: A name in `VARIANTS`.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> def embed(images):
        ...     model = ConvNeXt("tiny", rngs=nnx.Rngs(0))
        ...     return model(images)
        >>> nnx.eval_shape(embed, jnp.zeros((1, 32, 48, 3))).shape
        (1, 768)
    """

    def __init__(self, variant: str, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        first, depths = VARIANTS[variant]
        init = {"rngs": rngs, "param_dtype": param_dtype}
        patches = conv(3, first, 4, stride=4, padding=0, bias=True, **init)
        self.stem = Stage([patches, LayerNorm(first, _EPSILON, **init)])
        channels = [first * 2**i for i in range(4)]
        inputs = [first, *channels[:-1]]
        self.stages = Stage(
            Blocks(*sizes, **init) for sizes in zip(inputs, channels, depths, strict=True)
        )
        self.head = Head(channels[-1], **init)

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3], or smaller than 32 x 32 pixels.
        """
        x = as_input(images, like=self.stem[0], smallest=32)
        return self.head(self.stages(self.stem(x)))
