"""Models of haiku, as their users write them."""

import functools

import jax
import jax.numpy as jnp
import pytest

from tests.frameworks.case import Case


def haiku_case(form):
    hk = pytest.importorskip("haiku", reason="needs haiku: pip install dm-haiku")
    state = form == "state"
    transform = hk.transform_with_state if state else hk.transform

    class Block(hk.Module):
        def __call__(self, x, training):
            x = jax.nn.relu(hk.Conv2D(8, 3, name="stem")(x))
            if state:
                x = hk.BatchNorm(True, True, 0.9, name="norm")(x, is_training=training)
            return hk.Conv2D(8, 3, name="conv")(x)

    def below(x, flip=False, training=False):
        return Block(name="block")(x[:, ::-1] if flip else x, training)

    def above(x):
        return hk.Linear(6, name="fc")(jnp.tanh(x).mean((1, 2)))

    def whole(x, flip=False, training=False):
        return above(below(x, flip, training))

    example = jax.random.normal(jax.random.key(2), (2, 8, 8, 3))
    made = transform(whole).init(jax.random.key(0), example, training=True)
    variables = made if state else (made,)  # parameters, and averages

    def applied(fn, **flags):
        def call(x):
            out = transform(fn).apply(*variables, None, x, **flags)
            return out[0] if state else out

        return call

    flags = {"flip": True} if form == "flags" else {}
    return Case(
        functools.partial(transform(whole).apply, *variables, None, **flags),
        "block/conv",
        applied(below, **flags),
        applied(above),
        applied(whole, **flags),
        lambda: jax.tree.leaves(variables),
    )
