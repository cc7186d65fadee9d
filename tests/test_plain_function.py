"""A function (enc, references) -> maps is a method wherever one is taken."""

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax.methods.method import as_method

ENCODE = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)


def weighted(enc, references):
    return jnp.einsum("bhwk,bk->bhw", enc.activations, references)


def test_it_explains_everywhere():
    z = ENCODE(IMAGES).embeddings
    expected = weighted(ENCODE(IMAGES), z[::-1])
    out = fam_jax.explain(ENCODE, IMAGES, z[::-1], weighted)
    np.testing.assert_allclose(out.maps, expected, rtol=1e-6)
    np.testing.assert_allclose(out.scores, fam_jax.cosine.score(z, z[::-1]), rtol=1e-6)
    pairs = fam_jax.explain_pairs(ENCODE, IMAGES, IMAGES[::-1], weighted)
    np.testing.assert_allclose(pairs.query_maps, expected, rtol=1e-6)
    np.testing.assert_allclose(pairs.reference_maps, expected[::-1], rtol=1e-6)
    for references in (z, IMAGES):
        every = fam_jax.explain_all(ENCODE, IMAGES, references, weighted)
        np.testing.assert_allclose(every.maps[0, 1], expected[0], rtol=1e-5)
    np.testing.assert_allclose(
        fam_jax.all_pairs(weighted)(ENCODE(IMAGES), z)[1, 0], expected[1], rtol=1e-5
    )


def test_it_may_come_from_code_without_a_module():
    scope = {}
    exec("def summed(enc, references): return enc.activations.sum(-1)", scope)
    z = ENCODE(IMAGES).embeddings
    assert fam_jax.explain(ENCODE, IMAGES, z, scope["summed"]).valid.all()


def test_it_may_be_what_a_registered_factory_gives(monkeypatch):
    from fam_jax.methods import registry

    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    fam_jax.methods.register("weighted", lambda similarity: weighted)
    enc = ENCODE(IMAGES)
    maps = fam_jax.methods.make("weighted")(enc, enc.embeddings)
    np.testing.assert_allclose(maps, weighted(enc, enc.embeddings), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda enc, r: enc.activations,
        lambda enc, r: enc.embeddings,
        lambda enc, r: enc.activations[:1, ..., 0],
        lambda enc, r: None,
    ],
)
def test_a_wrong_shape_is_one_line(wrong):
    with pytest.raises(
        ValueError, match=r"method: expected raw maps \[2, h, w\] from it, got"
    ) as e:
        fam_jax.explain(ENCODE, IMAGES, ENCODE(IMAGES).embeddings, wrong)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("nothing", [fam_jax.fam, "fam", 3, lambda enc: enc])
def test_what_is_no_method_is_refused(nothing):
    with pytest.raises(
        TypeError, match=r"method: expected a Method such as fam\(\), or a function"
    ):
        as_method(nothing)
