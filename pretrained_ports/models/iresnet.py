"""iResNet, the residual network of ArcFace: 18, 34, 50 and 100 layers, faces of 112 x 112 pixels.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" (2019); the block
(norm first, none of the activations after the sum) after Han et al., "Deep Pyramidal Residual
Networks" (2017). Named as in https://github.com/deepinsight/insightface (arcface_torch).
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import PReLU, Stage, as_input, batch_norm, conv, flatten
from pretrained_ports.models.network import Network


class Block(nnx.Module):
    """Norm, 3x3, norm, PReLU, 3x3, norm: [b h w inputs] -> [b h/stride w/stride width]."""

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
        self.conv1 = conv(inputs, width, 3, **init)
        self.bn2 = batch_norm(width, **init)
        self.prelu = PReLU(width, param_dtype=param_dtype)
        self.conv2 = conv(width, width, 3, stride=stride, **init)
        self.bn3 = batch_norm(width, **init)
        self.downsample = Stage()
        if stride > 1:
            shortcut = conv(inputs, width, 1, stride=stride, **init)
            self.downsample = Stage([shortcut, batch_norm(width, **init)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Apply the block."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        return y + self.downsample(x)


VARIANTS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}


class IResNet(Network):
    """A face network with its embedding layer: images [b 112 112 3] -> embeddings [b 512].

    Stages are at "layer1" ... "layer4", blocks at "layer4.2". What enters the embedding layer is
    "bn2", the normed map of 7 x 7 cells: `fc` has a weight for each of its cells, and `features`
    norms the result. From there on the network is linear but for a constant (the embedding of a
    map of zeros), so `fam_jax.decomposition` at "bn2" splits the similarity less the constant's
    part. `fam_jax.fam` adds up the weights of all cells, as if their mean had been taken.

    Args:
        variant: A name in `VARIANTS`.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> model = nnx.eval_shape(lambda: IResNet("iresnet18", rngs=nnx.Rngs(0)))
        >>> model.fc.kernel.shape
        (25088, 512)
    """

    def __init__(self, variant: str, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        depths = VARIANTS[variant]
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = conv(3, 64, 3, **init)
        self.bn1 = batch_norm(64, **init)
        self.prelu = PReLU(64, param_dtype=param_dtype)

        def stage(inputs: int, width: int, depth: int) -> nnx.Module:
            rest = [Block(width, width, **init) for _ in range(depth - 1)]
            return Stage([Block(inputs, width, stride=2, **init), *rest])

        self.layer1 = stage(64, 64, depths[0])
        self.layer2 = stage(64, 128, depths[1])
        self.layer3 = stage(128, 256, depths[2])
        self.layer4 = stage(256, 512, depths[3])
        self.bn2 = batch_norm(512, **init)
        self.fc = nnx.Linear(512 * 7 * 7, 512, **init)
        self.features = batch_norm(512, **init)

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised, aligned faces; embeddings are compared by their cosine.

        Raises:
            ValueError: `images` is not [b, 112, 112, 3].
        """
        x = as_input(images, like=self.conv1, only=112)
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = self.bn2(x)
        return self.features(self.fc(flatten(x)))
