"""Models of Equinox, as their users write them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from tests.frameworks.case import Case


def equinox_net():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        stem: eqx.nn.Conv2d
        blocks: list
        fc: eqx.nn.Linear
        norm: eqx.nn.BatchNorm | None
        act: Callable = jax.nn.relu

        def __init__(self, key, norm=None):
            keys = jax.random.split(key, 5)
            self.stem = eqx.nn.Conv2d(3, 8, 3, padding=1, key=keys[0])
            conv = functools.partial(eqx.nn.Conv2d, 8, 8, 3, padding=1)
            layers = (conv(key=keys[2]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.Dropout(0.5, True))
            self.blocks = [conv(key=keys[1]), eqx.nn.Sequential(layers)]
            self.fc = eqx.nn.Linear(8, 6, key=keys[3])
            self.norm = norm

        def __call__(self, image, state=None):  # one image [C, H, W]
            x = self.stem(image)
            if self.norm is not None:
                x, _ = self.norm(x, state)
            for block in self.blocks:
                x = self.act(block(x))
            return self.fc(x.mean((1, 2)))

        def pooled(self, image):
            return self.blocks[0](self.act(self.stem(image))).mean((1, 2))

    class Batched(eqx.Module):
        """Batch statistics live in a state, which is held beside the network."""

        net: Net
        state: eqx.nn.State

        def __call__(self, images):
            run = jax.vmap(self.net, in_axes=(0, None), axis_name="batch")
            return run(images, self.state)

    return eqx, Net, Batched


def first(x):
    return jnp.moveaxis(x, -1, -3)


def last(x):
    return jnp.moveaxis(x, -3, -1)


def equinox_case(form):
    eqx, Net, Batched = equinox_net()
    net = Net(jax.random.key(0))
    stem = jax.vmap(net.stem)
    deep = jax.vmap(lambda x: net.blocks[1].layers[0](jax.nn.relu(net.blocks[0](x))))
    fc = jax.vmap(net.fc)
    weights = lambda: jax.tree.leaves(eqx.filter(net, eqx.is_array))  # noqa: E731

    def case(model, at, features, head, whole=net, outputs=6):
        return Case(
            model,
            at,
            lambda x: last(features(first(x))),
            lambda A: head(first(A)),
            lambda x: jax.vmap(whole)(first(x)),
            weights,
            layout="NCHW",
            outputs=outputs,
        )

    def head(x):
        return fc(jax.nn.relu(x).mean((2, 3)))

    if form == "vmap":
        at = "blocks.1.layers.0"
        return case(eqx.filter_vmap(net), at, lambda x: deep(stem(x)), head)
    if form == "method":
        return case(
            eqx.filter_vmap(net.pooled),
            "blocks.0",
            lambda x: jax.vmap(net.blocks[0])(jax.nn.relu(stem(x))),
            lambda x: x.mean((2, 3)),
            net.pooled,
            outputs=8,
        )
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(8, axis_name="batch", mode="batch")
    net = Net(jax.random.key(0), eqx.nn.inference_mode(norm))
    normed = jax.vmap(lambda x: net.norm(net.stem(x), state)[0])
    return case(
        Batched(net, state),
        "net.blocks.1.layers.0",
        lambda x: deep(normed(x)),
        head,
        functools.partial(net, state=state),
    )
