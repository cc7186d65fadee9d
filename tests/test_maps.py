"""Scaling, upsampling and fusing of maps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests.close import assert_close
from tests.programs import on_devices

# In float64, where two programs of one formula agree to many digits.
pytestmark = [pytest.mark.numerics, pytest.mark.usefixtures("x64")]

rescale = jax.jit(fam_jax.rescale, static_argnames="author_compat")
upsample = jax.jit(fam_jax.upsample, static_argnums=1)
fuse = jax.jit(fam_jax.fuse, static_argnums=(1, 2))

MAPS = np.random.default_rng(0).normal(size=(8, 3, 5))
NARROW = MAPS.astype(np.float32)


def test_rescale_reaches_0_and_1_for_every_map():
    out = rescale(NARROW)
    assert out.dtype == jnp.float32
    assert (out.min((1, 2)) == 0).all()
    assert_close(out.max((1, 2)), np.ones(8), rtol=1e-6)


def test_rescale_is_told_the_axes_of_maps_that_are_not_of_pictures():
    """Each map on its own, whatever its rank; never over the batch."""
    for shape, axes in (
        ((4, 6), (1,)),
        ((4, 6), (-1,)),
        ((4, 2, 3, 5), (1, 2, 3)),
        ((4, 6), (0, 1)),
    ):
        maps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        out = np.asarray(fam_jax.rescale(maps, axes=axes))
        np.testing.assert_array_equal(out.min(axes), np.zeros_like(out.min(axes)))
        assert_close(out.max(axes), np.ones_like(out.max(axes)), rtol=1e-6)
    one = fam_jax.rescale(MAPS[0], axes=(0, 1))
    assert_close(one, fam_jax.rescale(MAPS)[0], rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, -3.0, 7.0])
def test_constant_maps_become_zeros_with_a_finite_gradient(value):
    flat = jnp.full((1, 2, 2), value, jnp.float32)
    assert not rescale(flat).any()
    assert not rescale(upsample(flat, (7, 9))).any()
    slope = jax.jit(jax.grad(lambda m: rescale(m).sum()))(flat)
    assert np.isfinite(slope).all()


def test_small_maps_are_not_damped():
    """An absolute epsilon would; the author's release has one."""
    assert_close(rescale(np.float32(1e-12) * NARROW), rescale(MAPS))


def test_author_compat_is_the_author_release():
    shown = 255 * np.asarray(rescale(NARROW, author_compat=True))
    for m, got in zip(MAPS, shown, strict=True):
        m = m - m.min()
        expected = np.uint8(255 * (m / (m.max() + 1e-7)))
        assert np.abs(got - expected).max() <= 1  # float32 may cut at the neighbouring level
        assert (np.abs(got - expected) > 1e-3).mean() < 0.1


@pytest.mark.parametrize("size", [(6, 10), (7, 23), (3, 5), (12, 5)])
def test_upsample_is_bilinear_with_half_pixel_centres(size):
    """Against the textbook formula, one pixel at a time; torch calls it align_corners=False."""
    m, expected = MAPS[0], np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = np.clip((i + 0.5) * 3 / size[0] - 0.5, 0, 2)
            x = np.clip((j + 0.5) * 5 / size[1] - 0.5, 0, 4)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, 2), min(left + 1, 4)
            rows = m[[top, bottom]] * np.array([[1 - (y - top)], [y - top]])
            expected[i, j] = rows.sum(0)[left] * (1 - (x - left)) + rows.sum(0)[right] * (x - left)
    # The weights are those of float32 places.
    assert_close(upsample(MAPS[:1], size)[0], expected, rtol=1e-6)


def transformed(fn, *maps):
    """`fn` as it stands, compiled, mapped and on eight devices, where it stays."""
    out = on_devices(fn, *maps)
    assert out.sharding.spec[0] == "batch"
    return fn(*maps), jax.jit(fn)(*maps), jax.jit(jax.vmap(fn))(*maps), out


@pytest.mark.parametrize(
    "fn",
    [  # under vmap a map is [h, w]
        partial(fam_jax.rescale, axes=(-2, -1)),
        lambda m: fam_jax.upsample(m, (6, 10)),
    ],
)
def test_leading_axes_jit_vmap_and_bfloat16(fn):
    expected, *others = transformed(fn, MAPS)
    for actual in (fn(MAPS.reshape(2, 4, 3, 5)).reshape(expected.shape), *others):
        assert_close(actual, expected, rtol=1e-12)
    low = jax.eval_shape(fn, jax.ShapeDtypeStruct(MAPS.shape, jnp.bfloat16))
    assert low.dtype == jnp.float32


LAYERS = (MAPS, np.abs(MAPS[:, :2, :2]), MAPS[:, :1] - 1)  # 3 x 5, 2 x 2 and 1 x 5


@pytest.mark.parametrize("how", ["mean", "max", "product"])
def test_fuse_is_upsample_rescale_and_numpy(how):
    shown = [np.asarray(rescale(upsample(m, (3, 5)))) for m in LAYERS]
    expected = {"mean": np.mean, "max": np.max, "product": np.prod}[how](shown, axis=0)
    assert_close(fuse(LAYERS, how), expected, rtol=1e-12)


def test_fuse_of_one_layer_is_its_rescaled_map():
    for how in ("mean", "max", "product"):
        assert_close(fuse([MAPS], how), rescale(MAPS), rtol=1e-12)
    large = rescale(upsample(MAPS, (9, 8)))
    assert_close(fuse([MAPS], "mean", (9, 8)), large, rtol=1e-12)


def test_a_layer_that_says_nothing_adds_nothing_and_no_nan():
    flat = jnp.full((8, 2, 2), 7.0)
    assert_close(fuse([MAPS, flat]), rescale(MAPS) / 2, rtol=1e-12)
    assert not fuse([MAPS, flat], "product").any()


def test_fuse_under_jit_vmap_grad_bfloat16_and_8_devices():
    of = lambda *layers: fam_jax.fuse(layers)  # noqa: E731
    expected, *others = transformed(of, *LAYERS)
    for actual in others:
        assert_close(actual, expected, rtol=1e-12)
    low = of(*(jnp.asarray(m, jnp.bfloat16) for m in LAYERS))
    assert low.dtype == jnp.float32
    assert_close(low, expected, rtol=0.02)
    slope = jax.jit(jax.grad(lambda m: of(m, *LAYERS[1:]).sum()))(MAPS)
    assert np.isfinite(slope).all()
    assert slope.any()


def test_several_layers_are_explained_by_one_forward_pass():
    """Counted in the program: as many convolutions as the network has, however many layers."""
    kernel = jnp.ones((3, 3, 3, 3)) / 9

    def embed(images):
        x = images
        for name in ("first", "second", "third"):
            x = jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = fam_jax.tap(jax.nn.relu(x), name)
        return x.mean((1, 2))

    encode = fam_jax.capture(embed, at=("first", "second", "third"))

    def explain(images, references):
        method = fam_jax.decomposition()
        return fam_jax.fuse([method(enc, references) for enc in encode(images)])

    x, r = jnp.ones((2, 16, 16, 3)), jnp.ones((2, 3))
    assert explain(x, r).shape == (2, 8, 8)

    # Back from the end: two convolutions to the first layer, one to the second. Compiled, what is
    # computed twice is merged.
    def convolutions(explain):
        return jax.jit(explain).lower(x, r).compile().as_text().count(" convolution(")

    def at(layer):
        return lambda x, r: fam_jax.decomposition()(fam_jax.capture(embed, at=layer)(x), r)

    assert [convolutions(at("first")), convolutions(at("third"))] == [5, 3]
    assert convolutions(explain) == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fam_jax.fuse([]), "maps: expected the maps of at least one layer"),
        (
            lambda: fam_jax.fuse([MAPS, MAPS[:2]]),
            r"same images, got shapes \(8, 3, 5\), \(2, 3, 5\)",
        ),
        (lambda: fam_jax.fuse([MAPS], "sum"), "how: expected one of mean, max, product"),
        (lambda: fam_jax.fuse([MAPS[0, 0]]), r"maps: expected \[..., height, width\]"),
        (
            lambda: fam_jax.rescale(MAPS[0]),
            r"got shape \(3, 5\); say which axes are a map's: axes=",
        ),
        (
            lambda: fam_jax.rescale(MAPS[0, 0]),
            r"maps: expected \[..., height, width\] with an axis",
        ),
        (lambda: fam_jax.rescale(MAPS, axes=(1, 1)), "axes: expected different axes of maps of"),
        (lambda: fam_jax.rescale(MAPS, axes=(3,)), "axes: expected different axes of maps of"),
        (lambda: fam_jax.rescale(MAPS, axes=()), "axes: expected different axes of maps of"),
        (lambda: fam_jax.upsample(MAPS, (0, 4)), "size: expected positive integers"),
        (lambda: fam_jax.upsample(MAPS, (4.5, 4)), "size: expected positive integers"),
        (lambda: fam_jax.upsample(MAPS, ()), "size: expected positive integers"),
    ],
)
def test_wrong_arguments_are_refused(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
