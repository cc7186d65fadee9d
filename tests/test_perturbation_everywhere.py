"""Occlusion, RISE, CorrRISE, Score-CAM and LOTS: batches, transformations, types, bad input."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests.close import assert_close, assert_slopes
from tests.perturbation_toy import KEY, SIZE, case, draw, features, flat, head

METHODS = {
    "occlusion": lambda e, x, r: fam_jax.occlusion(e, x, r, window=(2, 3), stride=2, chunk=4),
    "rise": lambda e, x, r: fam_jax.rise(e, x, r, KEY, masks=6, cells=2, chunk=4),
    "corr_rise": lambda e, x, r: fam_jax.corr_rise(e, x, r, KEY, masks=7, patch=2, chunk=3),
    "score_cam": lambda e, x, r: fam_jax.score_cam(e, x, r, channels=3, chunk=2),
    "lots": lambda e, x, r: fam_jax.lots(e, x, r, steps=3, rate=0.1, kernel=3),
}
every = pytest.mark.parametrize("name", METHODS)
BAD = ("nan image", "infinite reference", "zero reference")


@jax.jit
def by_all(encode, x, r):
    """The methods in one program, which is compiled sooner than one for each."""
    return {name: method(encode, x, r) for name, method in METHODS.items()}


@pytest.fixture(scope="module")
def plain():
    with jax.enable_x64(True):
        return by_all(*case(b=8, dtype=np.float64))


@pytest.fixture(scope="module")
def maps(plain):
    """Of every method in float64: two images, alone, beside another, exchanged, on devices."""
    with jax.enable_x64(True):
        encode, x, r = case(b=8, dtype=np.float64)
        one = jax.vmap(lambda x, r: jax.tree.map(lambda m: m[0], by_all(encode, x[None], r[None])))
        shard = jax.NamedSharding(jax.make_mesh((8,), ("batch",)), jax.P("batch"))
        sharded = encode, *jax.device_put((x, r), shard)
        program = by_all.lower(*sharded).compile()
        assert not re.findall("all-gather|all-reduce|all-to-all|collective", program.as_text())
        return {
            "plain": plain,
            "alone": jax.jit(one)(x, r),
            "beside another": by_all(encode, x.at[1].multiply(-3), r.at[1].add(1)),
            "exchanged": by_all(encode, x[::-1], r[::-1]),
            "devices": program(*sharded),
        }


@every
def test_maps_do_not_depend_on_the_rest_of_the_batch(name, maps):
    """Nor on the number of devices, on which they stay."""
    plain = maps["plain"][name]
    assert plain.shape == (8, *(SIZE if name != "score_cam" else (2, 3)))
    assert plain.dtype == jnp.float64
    assert plain.any((1, 2)).sum() >= 7  # ReLU may leave a map of Score-CAM empty
    for way in ("alone", "devices"):
        assert_close(maps[way][name], plain, rtol=1e-9)
    assert_close(maps["exchanged"][name][::-1], plain, rtol=1e-9)
    np.testing.assert_array_equal(maps["beside another"][name][0], plain[0])
    assert maps["devices"][name].sharding.spec[0] == "batch"


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


@pytest.fixture(scope="module")
def narrow():
    encode, x, r = case(b=8)
    return {
        "float32": by_all(encode, x, r),
        "bfloat16": by_all(encode, x.astype(jnp.bfloat16), r.astype(jnp.bfloat16)),
        "nan image": by_all(encode, x.at[1, 0, 0, 0].set(jnp.nan), r),
        "infinite reference": by_all(encode, x, r.at[1, 2].set(jnp.inf)),
        "zero reference": by_all(encode, x, r.at[1].set(0)),
    }


@pytest.mark.numerics
@every
def test_bfloat16_pictures_give_float32_maps(name, narrow, plain):
    """Digits of the largest value; the draws of masks do not depend on the type."""
    # In bfloat16 a score is off by 2^-8 or so; a correlation, a drop is a difference of scores.
    for dtype, digits in (("float32", 1e-4), ("bfloat16", 0.1)):
        assert narrow[dtype][name].dtype == jnp.float32
        assert_close(narrow[dtype][name], plain[name], rtol=digits)


def test_gradients_match_finite_differences(x64):
    """Those of LOTS would be second derivatives of a walk."""
    encode, x, r = case(dtype=np.float64)

    def losses(r):
        maps = [METHODS[name](encode, x, *r) for name in METHODS if name != "lots"]
        return jnp.stack([jnp.sum(jnp.sin(m)) for m in maps])

    assert_slopes(losses, [r], [draw(*r.shape, seed=9)])


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


@pytest.mark.numerics
@every
@pytest.mark.parametrize("bad", BAD)
def test_nothing_to_say_gives_zeros_and_spares_the_others(name, bad, narrow):
    assert not narrow[bad][name][1].any()
    np.testing.assert_array_equal(narrow[bad][name][0], narrow["float32"][name][0])


def test_an_encoder_is_its_embeddings(plain, x64):
    encode, x, r = case(b=8, dtype=np.float64)
    found = METHODS["occlusion"](lambda x: encode(x).embeddings, x, r)
    assert_close(found, plain["occlusion"], rtol=1e-9)


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
