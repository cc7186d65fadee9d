"""What a user's own similarity or method holds: a new one is of what it holds now."""

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax.methods import pullback_method
from fam_jax.methods.method import _maps
from fam_jax.methods.sums import Sum

IMAGES = np.random.default_rng(0).uniform(1, 2, (2, 3, 3, 3)).astype(np.float32)


def test_a_similarity_that_holds_arrays():
    """A user's own object, its own `frozen_gradient` included."""

    class Weighted:
        def shares(self, z, r):
            return z * r * self.w[None]

        def score(self, z, r):
            return self.shares(z, r).sum(-1)

        def frozen_gradient(self, z, r):
            return 5 * r * self.w[None]

    mine = Weighted()
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    references = np.ones((2, 3), np.float32)
    for method in (fam_jax.decomposition, fam_jax.hires_cam):
        outs = []
        for scale in (1, 3):
            mine.w = scale * jnp.arange(1, 4, dtype=jnp.float32)
            outs.append(fam_jax.explain(encode, IMAGES, references, method(mine)))
        np.testing.assert_allclose(outs[1].maps, 3 * outs[0].maps, rtol=1e-5)
        np.testing.assert_allclose(outs[1].scores, 3 * outs[0].scores, rtol=1e-5)
    expected = (5 * 3 * np.arange(1, 4) * IMAGES).sum(-1) / 9
    np.testing.assert_allclose(outs[1].maps, expected, rtol=1e-5)


def test_methods_of_a_users_own_functions():
    """Their arrays are those of the method's making, by hand as by `explain`."""
    scale = jnp.asarray(1.0)

    def weigh(similarity, z, r):
        return scale * r

    def combine(G, A):
        return Sum((G * A).sum(-1), jnp.abs(G * A).sum((1, 2, 3)))

    make = lambda: pullback_method(fam_jax.dot, weigh, combine)  # noqa: E731
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    enc = encode(IMAGES)
    first = make()
    before = first(enc, enc.embeddings)
    scale = jnp.asarray(3.0)
    for method, factor in ((first, 1), (make(), 3)):
        for maps in (
            method(enc, enc.embeddings),
            method.pair(enc, enc)[0],
            fam_jax.all_pairs(method)(enc, enc.embeddings)[:, 0][:1],
            fam_jax.explain(encode, IMAGES, enc.embeddings, method).maps,
        ):
            np.testing.assert_allclose(maps, factor * before[: len(maps)], rtol=1e-5)
    slope = jax.grad(lambda m: m(enc, enc.embeddings).sum())(first)
    np.testing.assert_allclose(sum(jax.tree.leaves(slope)), before.sum(), rtol=1e-5)
    compiled, scale = _maps._cache_size(), jnp.asarray(5.0)
    np.testing.assert_allclose(make()(enc, enc.embeddings), 5 * before, rtol=1e-5)
    assert _maps._cache_size() == compiled
