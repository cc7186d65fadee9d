"""Losses on maps: exact values, invariances, zero maps, and everywhere they may be called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

import fam_jax
from fam_jax import metrics
from fam_jax.training import crop, disagreement, energy_outside, total_variation
from tests.close import assert_close
from tests.programs import on_devices

pytestmark = pytest.mark.numerics

RNG = np.random.default_rng(0)
X = {
    "maps": RNG.normal(size=(8, 4, 6)),
    "others": RNG.normal(size=(8, 4, 6)),
    "masks": RNG.random((8, 4, 6)) < 0.5,
    "wide_masks": RNG.random((8, 9, 12)) < 0.5,
    "boxes": np.tile([0.1, 0.2, 0.7, 0.9], (8, 1)),
}
LOSSES = {
    "energy_outside": lambda x: energy_outside(x["maps"], x["masks"]),
    "energy_outside, upsampled": lambda x: energy_outside(x["maps"], x["wide_masks"]),
    "disagreement": lambda x: disagreement(x["maps"], x["others"]),
    "total_variation": lambda x: total_variation(x["maps"]),
    "crop": lambda x: crop(x["maps"], x["boxes"], (3, 5)),
}
losses = pytest.mark.parametrize("name", LOSSES)
JITTED = {name: jax.jit(loss) for name, loss in LOSSES.items()}


def case(dtype=np.float32, **changed):
    """In float32, or in float64 where the claim is about the formula."""
    return {
        name: jnp.asarray(x if x.dtype == bool else x.astype(dtype))
        for name, x in (X | changed).items()
    }


def test_energy_outside_and_inside_make_one(x64):
    x = case(np.float64)
    inside = metrics.energy_in(x["maps"], x["masks"])
    assert_close(energy_outside(x["maps"], x["masks"]) + inside, np.ones(8), rtol=1e-12)


def test_masks_of_another_size_are_measured_as_upsampled_maps_are(x64):
    x = case(np.float64)
    positive = fam_jax.upsample(jnp.maximum(x["maps"], 0), (9, 12))
    expected = metrics.energy_in(positive, ~x["wide_masks"])
    assert_close(energy_outside(x["maps"], x["wide_masks"]), expected, rtol=1e-12)


def test_disagreement_is_one_less_the_cosine(x64):
    m, n = (X[name].reshape(8, -1) for name in ("maps", "others"))
    cosines = (m * n).sum(1) / np.linalg.norm(m, axis=1) / np.linalg.norm(n, axis=1)
    x = case(np.float64)
    assert_close(disagreement(x["maps"], x["others"]), 1 - cosines, rtol=1e-12)


def test_total_variation_counts_every_border_once():
    """Two halves: a border of 4 cells, a mass of 12; a chess board: all 38 borders, mass 12."""
    halves = np.zeros((4, 6))
    halves[:, 3:] = 1
    chess = np.indices((4, 6)).sum(0) % 2
    constant = np.ones((4, 6))
    variation = total_variation(np.array([halves, chess, constant], np.float32))
    assert_close(variation, np.array([4 / 12, 38 / 12, 0]), rtol=1e-6)


def test_a_crop_of_everything_is_the_upsampled_map_and_a_crop_of_cells_the_cells(x64):
    maps = case(np.float64)["maps"]
    whole = np.tile([0.0, 0.0, 1.0, 1.0], (8, 1))
    assert_close(crop(maps, whole, (8, 9)), fam_jax.upsample(maps, (8, 9)), rtol=1e-12)
    cells = np.tile([2 / 6, 1 / 4, 5 / 6, 3 / 4], (8, 1))
    assert_close(crop(maps, cells, (2, 3)), maps[:, 1:3, 2:5], rtol=1e-12)


def test_maps_of_a_network_without_borders_agree_with_every_view(x64):
    """A pointwise network is equivariant: maps of a crop are the crop of the maps."""
    images = RNG.normal(size=(2, 8, 8, 3))
    encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
    references = RNG.normal(size=(2, 3))

    @jax.jit
    def maps_of(images):
        return fam_jax.decomposition()(encode(images), references)

    maps = maps_of(images)
    flipped = maps_of(images[:, :, ::-1])
    np.testing.assert_allclose(disagreement(flipped, maps[:, :, ::-1]), 0, atol=1e-10)
    part = maps_of(images[:, 2:6, 4:8])
    boxes = np.tile([4 / 8, 2 / 8, 8 / 8, 6 / 8], (2, 1))
    np.testing.assert_allclose(disagreement(part, crop(maps, boxes, (4, 4))), 0, atol=1e-10)
    assert (disagreement(flipped, maps) > 0.01).all()


@given(st.floats(1e-30, 1e30))
@pytest.mark.parametrize("name", ["energy_outside", "disagreement", "total_variation"])
def test_the_scale_of_the_maps_does_not_count(name, scale):
    loss = JITTED[name]
    # A disagreement is a difference from one; the others are of that size.
    assert_close(loss(case(maps=X["maps"] * scale)), loss(case()), relative_to=1)


@losses
def test_first_and_second_derivatives(name, x64):
    x = case(np.float64)

    @jax.jit
    def of_maps(maps):
        return LOSSES[name](x | {"maps": maps})

    check_grads(of_maps, (x["maps"],), order=2, modes=("rev",), rtol=1e-5, atol=1e-8)


@losses
def test_a_zero_map_has_a_finite_value_and_gradient(name):
    x = case(maps=np.zeros((8, 4, 6)))

    def total(maps):
        return LOSSES[name](x | {"maps": maps}).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(x["maps"])
    assert float(value) == (8 if name == "disagreement" else 0)
    assert np.isfinite(gradient).all()


@losses
def test_compiled_mapped_and_on_eight_devices(name):
    x, loss = case(), JITTED[name]
    expected = np.asarray(LOSSES[name](x))  # not compiled
    assert expected.shape[0] == 8
    single = jax.tree.map(lambda a: a[:, None], x)
    assert_close(jax.jit(jax.vmap(LOSSES[name]))(single)[:, 0], expected)

    assert_close(loss(x), expected)
    assert_close(on_devices(loss, x), expected)


@losses
def test_bfloat16_is_float32_inside_and_float64_stays(name, x64):
    low = case(jnp.bfloat16)
    again = {k: x if x.dtype == bool else x.astype(jnp.float32) for k, x in low.items()}
    loss = JITTED[name]
    value = loss(low)
    assert value.dtype == jnp.float32
    assert_close(value, loss(again))
    assert jax.eval_shape(loss, case(np.float64)).dtype == jnp.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: energy_outside(m, m), ValueError, r"masks: expected booleans \[2, height"),
        (lambda m: energy_outside(m, m[:1] > 0), ValueError, r"got bool of shape \(1, 3, 4\)"),
        (lambda m: energy_outside(m[0, 0], m > 0), ValueError, r"maps: expected an array \[batch"),
        (lambda m: disagreement(m, m[:, :2]), ValueError, r"others of shape \(2, 2, 4\)"),
        (lambda m: total_variation(m > 0), TypeError, "floating-point numbers, got bool"),
        (lambda m: crop(m, m[:, 0], (2,)), ValueError, r"size: expected \(height, width\)"),
        (lambda m: crop(m, m[:1, 0], (2, 2)), ValueError, r"boxes: expected \[2, 4\]"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call(jnp.ones((2, 3, 4)))
