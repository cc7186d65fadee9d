"""Occlusion, RISE, CorrRISE, Score-CAM and LOTS: batches, transformations, types, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests.close import assert_close, assert_slopes
from tests.explained import explained
from tests.perturbation_toy import KEY, SIZE, case, draw, features, flat, head
from tests.programs import on_devices

PERTURBATIONS = {
    "occlusion": fam_jax.occlusion(window=(2, 3), stride=2, chunk=4),
    "rise": fam_jax.rise(masks=6, cells=2, chunk=4, key=KEY),
    "corr_rise": fam_jax.corr_rise(masks=7, patch=2, chunk=3, key=KEY),
    "score_cam": fam_jax.score_cam(channels=3, chunk=2),
    "lots": fam_jax.lots(steps=3, rate=0.1, kernel=3),
}
METHODS = {name: partial(explained, method) for name, method in PERTURBATIONS.items()}
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
        return {
            "plain": plain,
            "alone": jax.jit(one)(x, r),
            "beside another": by_all(encode, x.at[1].multiply(-3), r.at[1].add(1)),
            "exchanged": by_all(encode, x[::-1], r[::-1]),
            "devices": on_devices(by_all, x, r, shared=(encode,)),
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
    "occlusion": fam_jax.occlusion(window=1, stride=1, chunk=2),
    "rise": fam_jax.rise(masks=500, chunk=2),
    "corr_rise": fam_jax.corr_rise(masks=500, chunk=2),
    "lots": fam_jax.lots(steps=500),
}


@pytest.mark.parametrize("name", MANY)
def test_memory_does_not_grow_with_the_number_of_copies(name):
    """At 384 or more copies, two at a time, there is never room for 10."""
    x, r = jnp.ones((2, 16, 24, 1)), jnp.ones((2, 16 * 24))
    run = jax.jit(lambda x, r: explained(MANY[name], flat, x, r))
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
    maps = METHODS["occlusion"](lambda x: encode(x).embeddings, x, r)
    assert_close(maps, plain["occlusion"], rtol=1e-9)


X_, R_ = jnp.ones((2, 4, 6, 1)), jnp.ones((2, 24))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fam_jax.rise(key=0), TypeError, r"key: expected jax.random.key\(seed\)"),
        (lambda: fam_jax.rise(key=jax.random.split(KEY)), TypeError, r"of shape \(2,\)"),
        (lambda: fam_jax.rise(keep=1.0), ValueError, "keep: expected a prob"),
        (lambda: fam_jax.rise(masks=0), ValueError, "masks: expected a positive"),
        (lambda: fam_jax.corr_rise(patch=5), ValueError, "patch: .* 1 to 4"),
        (lambda: fam_jax.corr_rise(chunk=0), ValueError, "chunk: expected"),
        (lambda: fam_jax.occlusion(window=5), ValueError, "window: .* 1 to 4, got 5"),
        (lambda: fam_jax.occlusion(window=2, stride=3), ValueError, "stride: .* 1 to"),
        (lambda: fam_jax.occlusion(window=(1, 2, 3)), ValueError, "window: expected"),
        (lambda: fam_jax.occlusion(fill=jnp.ones(2)), ValueError, "fill: expected a n"),
        (lambda: fam_jax.occlusion("dot"), TypeError, "similarity: expected"),
        (lambda: fam_jax.score_cam(channels=0), ValueError, "channels: expected a positive"),
        (lambda: fam_jax.lots(kernel=4), ValueError, "kernel: expected an odd"),
        (lambda: fam_jax.lots(steps=True), ValueError, "steps: expected a positive"),
    ],
)
def test_wrong_options_are_refused(make, error, message, unchecked):
    with pytest.raises(error, match=message):
        explained(make(), flat, X_, R_)


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize(
    ("x", "r", "message"),
    [
        (X_, R_[:1], "one reference per image"),
        (X_[0, 0, 0], R_, "images: expected an array"),
        (X_, R_[:, :3], r"references have shape \(2, 3\), embeddings \(2, 24\)"),
    ],
)
def test_wrong_arrays_are_refused(name, x, r, message, unchecked):
    with pytest.raises(ValueError, match=message):
        explained(PERTURBATIONS[name], flat, x, r)


def test_an_encoding_without_its_images_is_refused():
    encode, x, r = case()
    with pytest.raises(ValueError, match=r"this method reads the images; encode\(images, method\)"):
        fam_jax.rise()(encode(x), r)
