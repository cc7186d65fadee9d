"""Pytrees of different classes are different to `jax.jit`, whatever their fields."""

import sys
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax._core.pytree import OURS, register_dataclass
from tests.imports import import_all
from tests.programs import counted

PLAIN = (fam_jax.cosine, fam_jax.dot, fam_jax.euclidean)
Z, R = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)


def test_every_pytree_of_the_library_is_told_from_every_other():
    """None is registered in the way that leaves classes with the same fields equal."""
    import_all(fam_jax)
    assert len(OURS) > 15
    for module in [m for name, m in sys.modules.items() if name.startswith("fam_jax")]:
        given = getattr(module, "register_dataclass", None)
        assert given in (None, register_dataclass), module.__name__


@pytest.mark.parametrize(
    ("one", "other"),
    list(combinations((*PLAIN, *(fam_jax.margin(s, Z) for s in PLAIN)), 2)),
)
def test_similarities_and_the_methods_of_them_are_different_keys(one, other):
    for make in (lambda s: s, fam_jax.fam, fam_jax.decomposition, fam_jax.interaction_cam):
        a, b, again = (jax.tree.structure(make(s)) for s in (one, other, one))
        assert a == again
        assert hash(a) == hash(again)
        assert a != b


def test_similarities_that_a_user_registers_with_jax():
    """Two classes of one shape, which `jax.tree_util.register_dataclass` makes look the same."""

    def registered(factor):
        @partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=[])
        @dataclass(frozen=True)
        class Mine:
            w: object

            def shares(self, z, r):
                return factor * self.w[None] * z * r

            def score(self, z, r):
                return self.shares(z, r).sum(-1)

        Mine.__qualname__ = Mine.__name__ = f"Mine{factor}"
        return Mine

    kinds = registered(1), registered(3)
    w = jnp.arange(5, dtype=jnp.float32)
    plain, threefold = (jax.tree.structure(fam_jax.fam(kind(w))) for kind in kinds)
    assert plain != threefold
    score, traces = counted(lambda method, z, r: method.similarity.score(z, r))
    for kind, factor in zip(kinds, (1, 3), strict=True):
        for scale in (1, 2):
            out = score(fam_jax.fam(kind(scale * w)), Z, R)
            expected = (factor * scale * np.arange(5) * Z * R).sum(-1)
            np.testing.assert_allclose(out, expected, rtol=1e-4)
    assert len(traces) == 2  # another array of the same class compiles nothing


def test_networks_that_a_user_registers_with_jax():
    def network(f):
        @partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=[])
        @dataclass(frozen=True)
        class Net:
            w: object

            def __call__(self, x):
                return fam_jax.tap(f(x @ self.w), "a").mean((1, 2))

        Net.__qualname__ = Net.__name__ = f"Net{f.__name__}"
        return fam_jax.capture(Net(jnp.ones((3, 4))), at="a")

    one, other = network(jnp.tanh), network(jnp.sin)
    assert jax.tree.structure(one) != jax.tree.structure(other)
