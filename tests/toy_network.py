"""Small flax.nnx networks with what larger ones have: stages, norms, dropout, tokens."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class Stage(nnx.List):
    def __call__(self, x):
        for block in self:
            x = nnx.relu(block(x))
        return x


class Net(nnx.Module):
    """A small network with stages, batch-norm, dropout and a linear head."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.layer4 = Stage([nnx.Conv(8, 8, (3, 3), rngs=rngs) for _ in range(3)])
        self.branches = nnx.Dict(left=nnx.Conv(8, 4, (1, 1), rngs=rngs))
        self.fc = nnx.Linear(4, 6, rngs=rngs)

    def __call__(self, images):
        x = self.layer4(self.drop(nnx.relu(self.bn1(self.conv1(images)))))
        return self.fc(self.branches["left"](x).mean((1, 2)))

    def features(self, images):
        return self.layer4(self.bn1(self.conv1(images))).mean((1, 2))


class Tokens(nnx.Module):
    """Class token, registers and patches through a linear block: a transformer's shapes."""

    def __init__(self, rngs, prefix=2):
        self.prefix = prefix
        self.blocks = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])

    def __call__(self, images):
        x = images.reshape(images.shape[0], -1, 3)
        x = jnp.pad(x, ((0, 0), (self.prefix, 0), (0, 0)), constant_values=1)
        for block in self.blocks:
            x = x + block(x)
        return x.mean(1)


def network(dtype=np.float32):
    model = Net(nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)
    floats = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return nnx.merge(graph, jax.tree.map(floats, state))
