"""Occlusion, RISE, CorrRISE, Score-CAM and LOTS: batches, transformations, types, bad input."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fam_jax
from tests.perturbation_toy import KEY, SIZE, case, draw, features, flat, head

METHODS = {
    "occlusion": lambda e, x, r: fam_jax.occlusion(e, x, r, window=(2, 3), stride=2, chunk=4),
    "rise": lambda e, x, r: fam_jax.rise(e, x, r, KEY, masks=6, cells=2, chunk=4),
    "corr_rise": lambda e, x, r: fam_jax.corr_rise(e, x, r, KEY, masks=7, patch=2, chunk=3),
    "score_cam": lambda e, x, r: fam_jax.score_cam(e, x, r, channels=3, chunk=2),
    "lots": lambda e, x, r: fam_jax.lots(e, x, r, steps=3, rate=0.1, kernel=3),
}
every = pytest.mark.parametrize("name", METHODS)
compiled = jax.jit(lambda name, *args: METHODS[name](*args), static_argnums=0)


@every
def test_maps_do_not_depend_on_the_rest_of_the_batch(name):
    encode, x, r = case()
    maps = compiled(name, encode, x, r)
    assert maps.shape == (2, *(SIZE if name != "score_cam" else (2, 3)))
    assert maps.dtype == jnp.float32
    assert maps.any((1, 2)).all()
    one = jax.vmap(lambda x, r: METHODS[name](encode, x[None], r[None])[0])(x, r)
    np.testing.assert_allclose(one, maps, rtol=1e-4, atol=1e-5)
    beside_another = compiled(name, encode, x.at[1].multiply(-3), r.at[1].add(1))
    np.testing.assert_array_equal(beside_another[0], maps[0])
    exchanged = compiled(name, encode, x[::-1], r[::-1])
    np.testing.assert_allclose(exchanged[::-1], maps, rtol=1e-4, atol=1e-5)


@every
def test_other_parameters_compile_nothing(name):
    _, x, r = case()
    traced = 0

    def counted(kernel, A):
        nonlocal traced
        traced += 1
        return head(kernel, A)

    def with_parameters(seed):
        kernel = jnp.asarray(draw(30, 4, seed=seed), jnp.float32)
        encode = fam_jax.encoder(partial(features, jnp.eye(3, 5)), partial(counted, kernel))
        return METHODS[name](encode, x, r)

    first = with_parameters(1)
    once = traced
    second = with_parameters(2)
    assert traced == once > 0
    assert jnp.abs(first - second).max() > 1e-3


@every
def test_bfloat16_pictures_give_float32_maps(name):
    encode, x, r = case()
    exact = compiled(name, encode, x, r)
    maps = compiled(name, encode, x.astype(jnp.bfloat16), r.astype(jnp.bfloat16))
    assert maps.dtype == jnp.float32
    # A score is off by 2^-8 or so; a correlation or a drop is a difference of such scores.
    assert np.abs(maps - exact).max() <= 0.1 * np.abs(exact).max()


@every
def test_float64_agrees_with_float32_and_with_finite_differences(name):
    """The masks are the same: the draws do not depend on the type."""
    narrow = np.asarray(compiled(name, *case()))
    with jax.enable_x64(True):
        encode, x, r = case(dtype=np.float64)
        maps = METHODS[name](encode, x, r)
        assert maps.dtype == jnp.float64
        np.testing.assert_allclose(narrow, maps, rtol=1e-3, atol=1e-5)
        if name != "lots":  # whose gradients are second derivatives of a walk
            loss = lambda r: jnp.sum(jnp.sin(METHODS[name](encode, x, r)))  # noqa: E731
            check_grads(loss, (r,), order=1, modes=["rev"], rtol=1e-4, atol=1e-6)


@every
def test_sharded_batches_stay_where_they_are(name):
    encode, x, r = case(b=8)
    shard = jax.NamedSharding(jax.make_mesh((8,), ("batch",)), jax.P("batch"))
    program = compiled.lower(name, encode, *jax.device_put((x, r), shard)).compile()
    assert not re.findall("all-gather|all-reduce|all-to-all|collective", program.as_text())
    maps = program(encode, *jax.device_put((x, r), shard))
    assert maps.sharding.spec[0] == "batch"
    few = compiled(name, encode, x[:2], r[:2])
    np.testing.assert_allclose(np.asarray(maps)[:2], few, rtol=1e-4, atol=1e-5)


MANY = {
    "occlusion": lambda *a: fam_jax.occlusion(*a, window=1, stride=1, chunk=2),
    "rise": lambda *a: fam_jax.rise(*a, KEY, masks=500, chunk=2),
    "corr_rise": lambda *a: fam_jax.corr_rise(*a, KEY, masks=500, chunk=2),
    "lots": lambda *a: fam_jax.lots(*a, steps=500),
}


@pytest.mark.parametrize("name", MANY)
def test_memory_does_not_grow_with_the_number_of_copies(name):
    """At 384 or more copies, two at a time, there is never room for 10."""
    x, r = jnp.ones((2, 16, 24, 1)), jnp.ones((2, 16 * 24))
    run = jax.jit(lambda x, r: MANY[name](flat, x, r))
    memory = run.lower(x, r).compile().memory_analysis().temp_size_in_bytes
    assert 0 < memory < 10 * x.nbytes


@every
@pytest.mark.parametrize("bad", ["nan image", "infinite reference", "zero reference"])
def test_nothing_to_say_gives_zeros_and_spares_the_others(name, bad):
    encode, x, r = case(b=2)
    clean = compiled(name, encode, x, r)
    if bad == "nan image":
        x = x.at[1, 0, 0, 0].set(jnp.nan)
    else:
        r = r.at[1, 2].set(jnp.inf) if "infinite" in bad else r.at[1].set(0)
    maps = compiled(name, encode, x, r)
    assert not maps[1].any()
    np.testing.assert_allclose(maps[0], clean[0], rtol=1e-5, atol=1e-6)


def test_an_encoder_is_its_embeddings():
    encode, x, r = case()
    plain = METHODS["occlusion"](lambda x: encode(x).embeddings, x, r)
    np.testing.assert_allclose(compiled("occlusion", encode, x, r), plain, rtol=1e-5, atol=1e-6)


E_, X_, R_ = flat, jnp.ones((2, 4, 6, 1)), jnp.ones((2, 24))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fam_jax.rise(E_, X_, R_[:1], KEY), ValueError, "one reference per image"),
        (lambda: fam_jax.rise(E_, X_[0], R_, KEY), ValueError, "images: expected an array"),
        (lambda: fam_jax.rise(E_, X_, R_[:, :3], KEY), ValueError, r"embed gives shape \(32, 24\)"),
        (lambda: fam_jax.rise("net", X_, R_, KEY), TypeError, "embed: expected a function"),
        (lambda: fam_jax.rise(E_, X_, R_, 0), TypeError, r"key: expected jax.random.key\(seed\)"),
        (lambda: fam_jax.rise(E_, X_, R_, jax.random.split(KEY)), TypeError, r"of shape \(2,\)"),
        (lambda: fam_jax.rise(E_, X_, R_, KEY, keep=1.0), ValueError, "keep: expected a prob"),
        (lambda: fam_jax.rise(E_, X_, R_, KEY, masks=0), ValueError, "masks: expected a positive"),
        (lambda: fam_jax.corr_rise(E_, X_, R_, KEY, patch=5), ValueError, "patch: .* 1 to 4"),
        (lambda: fam_jax.corr_rise(E_, X_, R_, KEY, chunk=0), ValueError, "chunk: expected"),
        (lambda: fam_jax.occlusion(E_, X_, R_, window=5), ValueError, "window: .* 1 to 4, got 5"),
        (lambda: fam_jax.occlusion(E_, X_, R_, window=2, stride=3), ValueError, "stride: .* 1 to"),
        (lambda: fam_jax.occlusion(E_, X_, R_, window=(1, 2, 3)), ValueError, "window: expected"),
        (lambda: fam_jax.occlusion(E_, X_, R_, fill=jnp.ones(2)), ValueError, "fill: expected a n"),
        (lambda: fam_jax.occlusion(E_, X_, R_, "dot"), TypeError, "similarity: expected"),
        (lambda: fam_jax.score_cam(E_, X_, R_), TypeError, "encode: expected fam_jax.capture"),
        (
            lambda: fam_jax.score_cam(fam_jax.encoder(jnp.tanh, flat), X_, R_, channels=2),
            ValueError,
            "channels: expected an integer from 1 to 1, got 2",
        ),
        (lambda: fam_jax.lots(E_, X_, R_, kernel=4), ValueError, "kernel: expected an odd"),
        (lambda: fam_jax.lots(E_, X_, R_, steps=True), ValueError, "steps: expected a positive"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call()
