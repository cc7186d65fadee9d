"""What functions hold that is no array: another value is another program."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax

IMAGES = np.random.default_rng(0).uniform(1, 2, (2, 3, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("read", [float, np.asarray, lambda s: s.item()])
def test_an_array_whose_value_became_a_constant(read):
    """A trace cannot see it: it is compared by identity, so another is another program."""
    holder = SimpleNamespace(s=jnp.float32(1))
    fn = lambda x: fam_jax.tap(x * read(holder.s), "a").mean((1, 2))  # noqa: E731
    first = fam_jax.capture(fn, at="a")(IMAGES).embeddings
    holder.s = jnp.float32(3)
    np.testing.assert_allclose(fam_jax.capture(fn, at="a")(IMAGES).embeddings, 3 * first, rtol=1e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [(2.0, 3.0), (2, 3), ([2.0], [3.0]), (np.float32(2), np.float32(3))],
    ids=["float", "int", "list", "scalar"],
)
def test_values_that_are_no_arrays(one, other):
    holder = SimpleNamespace(s=one)
    fn = lambda x: fam_jax.tap(x * jnp.float32(np.ravel(holder.s)[0]), "a").mean((1, 2))  # noqa: E731
    early = fam_jax.capture(fn, at="a")
    holder.s = other
    early(IMAGES)  # traced with what came later: it must not serve the next one
    holder.s = one
    out = fam_jax.capture(fn, at="a")(IMAGES).embeddings
    np.testing.assert_allclose(out, 2 * IMAGES.mean((1, 2)), rtol=1e-5)
    holder.s = other
    out = fam_jax.capture(fn, at="a")(IMAGES).embeddings
    np.testing.assert_allclose(out, 3 * IMAGES.mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("one", "other"), [(2, 3), ("sin", "tanh")])
def test_values_on_a_class(one, other):
    class Net:
        option = one

        def __call__(self, x):
            y = getattr(jnp, self.option)(x) if one == "sin" else x * jnp.float32(self.option)
            return fam_jax.tap(y, "a").mean((1, 2))

    net = Net()
    first = fam_jax.capture(net, at="a")(IMAGES).embeddings
    Net.option = other
    now = fam_jax.capture(net, at="a")(IMAGES).embeddings
    assert np.abs(now - first).min() > 1e-3
    np.testing.assert_allclose(now, net(IMAGES), rtol=1e-5)


def test_another_function_in_the_place_of_one():
    holder = SimpleNamespace(f=jnp.tanh)
    fn = lambda x: fam_jax.tap(holder.f(x), "a").mean((1, 2))  # noqa: E731
    fam_jax.capture(fn, at="a")(IMAGES)
    holder.f = jnp.sin
    out = fam_jax.capture(fn, at="a")(IMAGES).embeddings
    np.testing.assert_allclose(out, np.sin(IMAGES).mean((1, 2)), rtol=1e-5)
