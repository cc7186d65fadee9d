"""Localisation scores on maps whose scores are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fam_jax import metrics
from tests.close import assert_close

energy_in, pointing = jax.jit(metrics.energy_in), jax.jit(metrics.pointing)

LEFT = np.array([[True, False], [True, False]])


def test_closed_forms():
    maps = jnp.array(
        [
            [[1.0, 2.0], [3.0, 4.0]],
            [[8.0, 0.0], [0.0, 0.0]],
            [[-9.0, 1.0], [1.0, -9.0]],  # negative mass doesn't count
            [[2.0, 2.0], [2.0, 2.0]],  # a constant map: the mask's share, and no peak
        ]
    )
    masks = np.stack([LEFT] * 4)
    np.testing.assert_allclose(energy_in(maps, masks), [0.4, 1.0, 0.5, 0.5], rtol=1e-6)
    assert pointing(maps, masks).tolist() == [False, True, False, False]


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_map_that_is_positive_nowhere_scores_zero(value):
    maps, masks = jnp.full((1, 2, 2), value), LEFT[None]
    assert energy_in(maps, masks).tolist() == [0.0]
    assert pointing(maps, masks).tolist() == [False]


def test_only_negative_maps_still_point():
    assert pointing(jnp.array([[[-1.0, -2.0], [-3.0, -4.0]]]), LEFT[None]).tolist() == [True]


@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e37])
def test_scale_does_not_matter(scale):
    maps = jnp.asarray(scale * np.array([[[0.5, 0.25], [0.0, 0.25]]], np.float32))
    np.testing.assert_allclose(energy_in(maps, LEFT[None]), [0.5], rtol=1e-6)


def test_inside_and_outside_add_up_to_one():
    rng = np.random.default_rng(0)
    maps, masks = rng.normal(size=(5, 4, 6)).astype(np.float32), rng.random((5, 4, 6)) < 0.5
    assert_close(energy_in(maps, masks) + energy_in(maps, ~masks), np.ones(5), rtol=1e-6)
    assert (pointing(maps, masks) ^ pointing(maps, ~masks)).all()


@pytest.mark.parametrize("metric", [energy_in, pointing])
def test_jit_vmap_and_bfloat16(metric):
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.normal(size=(3, 2, 4, 4)), jnp.bfloat16)
    masks = rng.random(maps.shape) < 0.5
    plain = jnp.stack([metric(m, k) for m, k in zip(maps, masks, strict=True)])
    assert_close(jax.jit(jax.vmap(metric))(maps, masks), plain, rtol=1e-6)
    assert plain.dtype == (jnp.float32 if metric is energy_in else jnp.bool_)


def test_float64_stays(x64):
    assert energy_in(jnp.ones((1, 2, 2)), LEFT[None]).dtype == jnp.float64


def test_gradient_at_an_empty_map_is_finite():
    gradient = jax.grad(lambda maps: energy_in(maps, LEFT[None]).sum())(jnp.zeros((1, 2, 2)))
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("metric", [energy_in, pointing])
def test_errors_name_both_shapes(metric, unchecked):
    with pytest.raises(ValueError, match=r"masks: expected .* \(1, 2, 2\), got \(1, 4, 4\)"):
        metric(jnp.ones((1, 2, 2)), np.ones((1, 4, 4), bool))
    with pytest.raises(TypeError, match="masks: expected booleans, got float32"):
        metric(jnp.ones((1, 2, 2)), jnp.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="maps: expected an array"):
        metric(jnp.ones(2), np.ones(2, bool))
