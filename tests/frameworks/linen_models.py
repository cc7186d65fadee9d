"""Models of flax.linen, as their users write them."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from tests.frameworks.case import Case


class LinenBlock(nn.Module):
    widths: list  # not hashable, as in many published models
    train: bool = False

    @nn.compact
    def __call__(self, x, scale=1.0):
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (3, 3))(x))
        x = nn.BatchNorm(use_running_average=not self.train, name="norm")(x)
        return nn.Dropout(0.5, deterministic=not self.train)(x) * scale


class LinenNet(nn.Module):
    widths: list

    @nn.compact
    def __call__(self, images, flip=False):
        x = nn.remat(LinenBlock)(self.widths, name="block")(images)
        x = LinenBlock([8])(x[:, ::-1] if flip else x)
        return nn.Dense(6, name="fc")(jnp.tanh(x).mean((1, 2)))


class LinenSetup(nn.Module):
    def setup(self):
        self.stages = [nn.Conv(8, (3, 3)) for _ in range(2)]
        self.fc = nn.Dense(6)

    def __call__(self, images):
        return self.fc(self.trunk(images).mean((1, 2)))

    def trunk(self, images):
        return self.stages[1](nn.relu(self.stages[0](images)))

    def pooled(self, images):
        return self.trunk(images).mean((1, 2))


def linen_case(form, at="LinenBlock_0.Conv_0"):
    module = LinenNet([8, 8])
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    # No zeros and ones; and small, as float32 says little of the slope of a saturated tanh.
    params = jax.tree.map(lambda x: x + 0.01, variables["params"])
    stats = jax.tree.map(lambda x: x + 0.1, variables["batch_stats"])
    variables = {"params": params, "batch_stats": stats}
    flip = form == "apply"

    def block(name, widths, x):
        inner = {"params": params[name], "batch_stats": stats[name]}
        return LinenBlock(widths).apply(inner, x)

    def features(images):
        x = block("block", [8, 8], images)
        return nn.Conv(8, (3, 3)).apply(
            {"params": params["LinenBlock_0"]["Conv_0"]}, x[:, ::-1] if flip else x
        )

    def head(A):
        x = nn.BatchNorm(use_running_average=True).apply(
            {
                "params": params["LinenBlock_0"]["norm"],
                "batch_stats": stats["LinenBlock_0"]["norm"],
            },
            nn.relu(A),
        )
        return nn.Dense(6).apply({"params": params["fc"]}, jnp.tanh(x).mean((1, 2)))

    models = {
        "bound": module.bind(variables),
        "apply": functools.partial(module.apply, variables, flip=True),
    }
    whole = functools.partial(module.apply, variables, flip=flip)
    return Case(models[form], at, features, head, whole, lambda: jax.tree.leaves(variables))


def linen_in_nnx():
    """A linen module that `nnx.bridge.ToNNX` makes a layer of an nnx module."""

    class Outer(nnx.Module):
        def __init__(self, inner):
            self.inner = nnx.bridge.ToNNX(inner, rngs=nnx.Rngs(0)).lazy_init(
                jnp.zeros((1, 8, 8, 3))
            )

        def __call__(self, images):
            return self.inner(images)

    model = Outer(LinenSetup())
    params = {
        name: {part: param[...] for part, param in getattr(model.inner, name).items()}
        for name in ("stages_0", "stages_1", "fc")
    }
    return Case(
        model,
        "inner.stages_1",
        functools.partial(LinenSetup().apply, {"params": params}, method="trunk"),
        lambda A: nn.Dense(6).apply({"params": params["fc"]}, A.mean((1, 2))),
        functools.partial(LinenSetup().apply, {"params": params}),
        lambda: jax.tree.leaves(nnx.state(model, nnx.Param)),
    )


def linen_method():
    module = LinenSetup()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    first, second = ({"params": variables["params"][f"stages_{i}"]} for i in range(2))
    return Case(
        module.bind(variables).pooled,
        "stages_1",
        lambda x: nn.Conv(8, (3, 3)).apply(second, nn.relu(nn.Conv(8, (3, 3)).apply(first, x))),
        lambda A: A.mean((1, 2)),
        functools.partial(module.apply, variables, method="pooled"),
        lambda: jax.tree.leaves(variables),
        outputs=8,
    )
