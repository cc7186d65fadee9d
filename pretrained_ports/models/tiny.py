"""A residual network small enough to ship: 311,200 parameters, trained on two processor cores.

`examples/train_contrastive.py` trains it from nothing, by a contrastive loss on crops of the
photographs in scikit-image and scikit-learn. It shows how the explanations work; as a feature
extractor for other pictures it is no match for the large models.

    images [b H W 3]  RGB in [0, 1], less mean, over std (ImageNet's)
    conv1             [b H/4 W/4 32]
    layer1            [b H/4 W/4 32]
    layer2            [b H/8 W/8 64]
    layer3            [b H/8 W/8 128], never negative, and mostly 0 once trained
    embedding         the mean over positions, [b 128], or what a head that is kept makes of it

A stride of only 8 gives fine maps; an embedding that is plain pooling makes every map of the
pooled family closed-form, and decompositions of the similarity exact.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, as_input, batch_norm, conv
from pretrained_ports.models.network import Network
from pretrained_ports.models.resnet import BasicBlock


class Tiny(Network):
    """A three-block residual network: images [b H W 3] -> mean of layer3 [b 128].

    Stages are at "layer1" ... "layer3", their one block at "layer3.0". Fully convolutional. A
    projection head, where one is kept, is at "head", and its output is the embedding.

    Args:
        rngs: Random numbers for the initial weights (normal, variance 2 / fan-out).
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> model = Tiny(rngs=nnx.Rngs(0))
        >>> model.eval()
        >>> model(jnp.zeros((2, 64, 96, 3))).shape
        (2, 128)
    """

    def __init__(self, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = conv(3, 32, 7, stride=4, **init)
        self.bn1 = batch_norm(32, **init)
        self.layer1 = Stage([BasicBlock(32, 32, **init)])
        self.layer2 = Stage([BasicBlock(32, 64, stride=2, **init)])
        self.layer3 = Stage([BasicBlock(64, 128, **init)])
        self.head = Stage()

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images of at least 32 x 32 pixels.

        Raises:
            ValueError: `images` is not [b, H, W, 3], or smaller.
        """
        x = as_input(images, like=self.conv1, smallest=32)
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        return self.head(x.mean((1, 2)))
