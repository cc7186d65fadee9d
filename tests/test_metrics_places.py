"""Masks, boxes and correspondences: values known beforehand."""

import jax.numpy as jnp
import numpy as np
import pytest

from fam_jax.metrics import (
    box_hit,
    box_iou,
    box_masks,
    box_of,
    endpoint_error,
    energy_in,
    iou,
    pointing,
    rank_in,
)

BOXES = jnp.array([[1.0, 2.0, 4.0, 3.0], [0.0, 0.0, 6.0, 5.0]])


def test_a_map_that_is_the_box_scores_one_everywhere():
    masks = box_masks(BOXES[:1], (5, 6))
    assert int(masks.sum()) == 3
    maps = masks.astype(jnp.float32)
    for score in (energy_in, iou, rank_in, pointing):
        assert score(maps, masks).tolist() == [1]
    assert box_of(maps).tolist() == BOXES[:1].tolist()
    assert box_hit(maps, BOXES[:1], overlap=1.0).tolist() == [True]


def test_a_constant_map_has_no_region_and_no_box():
    maps, masks = jnp.ones((1, 5, 6)), box_masks(BOXES[:1], (5, 6))
    assert iou(maps, masks).tolist() == [0]
    assert box_of(maps).tolist() == [[0, 0, 0, 0]]
    assert box_hit(maps, BOXES[:1]).tolist() == [False]


@pytest.mark.parametrize(("threshold", "expected"), [(0.3, 2 / 3), (0.5, 1.0), (0.7, 1 / 2)])
def test_intersection_over_union_at_the_usual_thresholds(threshold, expected):
    maps = jnp.array([[[1.0, 0.6], [0.4, 0.0]]])
    masks = jnp.array([[[True, True], [False, False]]])
    np.testing.assert_allclose(iou(maps, masks, threshold), [expected], rtol=1e-6)


def test_boxes_hold_every_part_of_the_region():
    """Two spots, one box around both: not only the largest connected part."""
    maps = jnp.zeros((1, 6, 8)).at[0, 1, 2].set(1.0).at[0, 4, 6].set(0.8).at[0, 5, 7].set(0.4)
    assert box_of(maps).tolist() == [[2, 1, 7, 5]]
    assert box_of(maps, 0.9).tolist() == [[2, 1, 3, 2]]


def test_overlaps_of_boxes_by_hand():
    a = jnp.array([[0.0, 0.0, 2.0, 2.0]]).repeat(4, axis=0)
    b = jnp.array([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 4.0, 2.0], [1, 1, 1, 1]])
    np.testing.assert_allclose(box_iou(a, b), [1, 1 / 7, 0, 0], rtol=1e-6)
    assert box_iou(b[3:], b[3:]).tolist() == [0]


def test_boxes_as_masks_overlap_as_boxes_do():
    a = jnp.array([[1.0, 0.0, 5.0, 4.0]])
    b = jnp.array([[3.0, 2.0, 6.0, 5.0]])
    masks = [box_masks(x, (5, 6)) for x in (a, b)]
    region = masks[0].astype(jnp.float32)
    np.testing.assert_allclose(iou(region, masks[1]), box_iou(a, b), rtol=1e-6)


@pytest.mark.parametrize(("tolerance", "hit"), [(0, False), (2.8, False), (2.9, True), (99, True)])
def test_pointing_within_a_tolerance(tolerance, hit):
    """The mask's nearest pixel is two rows and two columns from the peak: 2.83 pixels."""
    maps = jnp.zeros((1, 7, 9)).at[0, 4, 5].set(1.0)
    masks = jnp.zeros((1, 7, 9), bool).at[0, 2, 3].set(True)
    assert pointing(maps, masks, tolerance).tolist() == [hit]
    assert pointing(maps, masks & False, tolerance).tolist() == [False]


def test_rank_accuracy_counts_as_many_pixels_as_the_mask_has():
    maps = jnp.array([[[5.0, 4.0, 3.0], [2.0, 1.0, 0.0]]])
    masks = jnp.array([[[True, False, False], [True, False, True]]])
    np.testing.assert_allclose(rank_in(maps, masks), [1 / 3], rtol=1e-6)
    assert rank_in(maps, masks & False).tolist() == [0]


def test_errors_of_correspondences_over_the_valid_points():
    """A known disparity of three columns; what lies under invalid points doesn't matter."""
    truth = jnp.zeros((3, 2, 4, 2)).at[..., 1].set(3.0)
    flow = truth.at[0, 0, 0].add(jnp.array([3.0, 4.0])).at[1, 1, 1].set(jnp.nan)
    valid = jnp.ones((3, 2, 4), bool).at[1, 1, 1].set(False).at[2].set(False)
    error = endpoint_error(flow, truth, valid)
    np.testing.assert_allclose(error, [5 / 8, 0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(endpoint_error(flow, truth)[:2], [5 / 8, np.nan], rtol=1e-6)
