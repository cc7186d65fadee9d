"""Relation network: an encoder, and a similarity of two maps that is a network itself.

Sung et al., "Learning to Compare: Relation Network for Few-Shot Learning" (2018).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from pretrained_ports.models.layers import Stage, as_input, batch_norm, conv, flatten, max_pool
from pretrained_ports.models.network import Network

_WIDTH = 64
_HIDDEN = 8


def _block(inputs: int, padding: int, *pool, **init) -> Any:
    """Convolution, norm, ReLU: the convolution is at "layer1.0", the norm at "layer1.1"."""
    first = conv(inputs, _WIDTH, 3, bias=True, padding=padding, **init)
    return Stage([first, batch_norm(_WIDTH, **init), nnx.relu, *pool])


def _halve(x: Array) -> Array:
    return max_pool(x, 2, stride=2)


class RelationNet(Network):
    """The encoder: images [b H W 3] -> every cell of layer4 [b d], 64 x 19 x 19 for 84 x 84 pixels.

    Blocks are at "layer1" ... "layer4". The embedding is laid out channel by channel, as PyTorch
    does it; `Relation` compares two of them.

    Args:
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> model = RelationNet(rngs=nnx.Rngs(0))
        >>> model.eval()
        >>> model(jnp.zeros((2, 20, 24, 3))).shape
        (2, 768)
    """

    def __init__(self, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.layer1 = _block(3, 0, _halve, **init)
        self.layer2 = _block(_WIDTH, 0, _halve, **init)
        self.layer3 = _block(_WIDTH, 1, **init)
        self.layer4 = _block(_WIDTH, 1, **init)

    def __call__(self, images: Float[Array, "b H W c"]) -> Float[Array, "b d"]:
        """Embed normalised images.

        Raises:
            ValueError: `images` is not [b, H, W, 3], or is smaller than 10 x 10.
        """
        x = as_input(images, like=self.layer1[0], smallest=10)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        return flatten(x)


class Relation(nnx.Module):
    """The learned similarity: a query's and a reference's map [b 19 19 64] -> scores [b], 0 to 1.

    It is a similarity for `fam_jax` as well: `score(z, r)` and `shares(z, r)` take the embeddings
    of `RelationNet`. The network is not linear, so no split of the score over dimensions is its
    own: a share is the first-order part z_d ds/dz_d of the query, and what these leave of the
    score is spread evenly. `fam()` does not see the even part, its min-max takes it off;
    `grad_cam` needs no shares; maps of `decomposition` do not sum to the score, for they drop the
    even part of dimensions that are 0. The network is not symmetric: with query and reference
    exchanged the score is another one.

    Args:
        shots: How many pictures of a class the network was trained to add up. References are means
            over pictures (one picture, or a prototype), and are multiplied by it.
        rngs: Random numbers for the initial weights.
        param_dtype: Type of the parameters, and of the computation.

    Examples:
        >>> relation = nnx.eval_shape(lambda: Relation(rngs=nnx.Rngs(0)))
        >>> relation.eval()
        >>> embeddings = jax.ShapeDtypeStruct((3, 64 * 19 * 19), "float32")
        >>> shares = lambda relation, z, r: relation.shares(z, r)
        >>> nnx.eval_shape(shares, relation, embeddings, embeddings).shape
        (3, 23104)
    """

    def __init__(self, shots: int = 1, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.layer1 = _block(2 * _WIDTH, 0, _halve, **init)
        self.layer2 = _block(_WIDTH, 0, _halve, **init)
        self.fc1 = nnx.Linear(3 * 3 * _WIDTH, _HIDDEN, **init)
        self.fc2 = nnx.Linear(_HIDDEN, 1, **init)
        self.shots = shots

    def __call__(
        self, query: Float[Array, "b h w c"], reference: Float[Array, "b h w c"]
    ) -> Float[Array, " b"]:
        """Score a query's map against the sum of the maps of a class.

        Raises:
            ValueError: The maps are not of the size that `fc1` takes.
        """
        if any(((side - 2) // 2 - 2) // 2 != 3 for side in query.shape[1:3]):
            raise ValueError(
                f"maps must have 19 x 19 cells (images of 84 x 84 pixels), got {query.shape[1]} x "
                f"{query.shape[2]}: fc1 takes the 3 x 3 cells that two poolings leave"
            )
        pair = jnp.concatenate([reference, query], -1)  # the class comes first in the original
        x = self.layer1(jnp.asarray(pair, self.fc1.kernel.dtype))
        x = self.layer2(x)
        x = nnx.relu(self.fc1(flatten(x)))
        return nnx.sigmoid(self.fc2(x))[:, 0]

    def score(self, z: Float[Array, "b d"], r: Float[Array, "b d"]) -> Float[Array, " b"]:
        """The relation of a query's embedding to a reference's.

        Raises:
            ValueError: They are not flattened square maps of the right size.
        """
        score = self(_as_map(z), self.shots * _as_map(r))
        return score.astype(z.dtype)

    def shares(self, z: Float[Array, "b d"], r: Float[Array, "b d"]) -> Float[Array, "b d"]:
        """z_d ds/dz_d and an even part of the rest; they sum to the score."""
        score, pullback = jax.vjp(lambda z: self.score(z, r), z)
        (gradient,) = pullback(jnp.ones_like(score))
        first = z * gradient
        rest = score - first.sum(-1)
        return first + rest[:, None] / z.shape[1]


def _as_map(z: Array) -> Array:
    """[b d] -> [b h w 64], the inverse of `flatten` for a square map."""
    side = math.isqrt(z.shape[1] // _WIDTH)
    if side * side * _WIDTH != z.shape[1]:
        raise ValueError(
            f"embeddings must be flattened square maps of {_WIDTH} channels, got {z.shape[1]} "
            "dimensions"
        )
    return z.reshape(-1, _WIDTH, side, side).transpose(0, 2, 3, 1)
