"""Occlusion, RISE, CorrRISE, Score-CAM and LOTS: closed forms, and loops in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax.methods.masks import grid_masks, patch_masks
from fam_jax.methods.steps import walk
from tests.close import assert_close
from tests.explained import explained
from tests.perturbation_toy import KEY, SIZE, case, draw, flat

grid_masks = jax.jit(grid_masks, static_argnums=(2, 3, 4))
patch_masks = jax.jit(patch_masks, static_argnums=(2, 3, 4))


def cosines(embed, copies, reference):
    """Scores in NumPy, of copies [n, H, W, c] of one image against one reference."""
    z = np.asarray(embed(jnp.asarray(copies)).embeddings, np.float64)
    reference = np.asarray(reference, np.float64)
    norms = np.linalg.norm(z, axis=1) * np.linalg.norm(reference)
    return z @ reference / np.where(norms == 0, 1, norms)  # 0 if a mask leaves nothing


def bilinear(grid, size):
    """Interpolation by its definition, half-pixel centres, edges held: the matrices' product."""

    def matrix(n, side):
        at = np.clip((np.arange(side) + 0.5) * n / side - 0.5, 0, n - 1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n)))

    return matrix(grid.shape[0], size[0]) @ grid @ matrix(grid.shape[1], size[1]).T


# Occlusion


@pytest.mark.parametrize("fill", [None, 0.5, np.array([1.0, -2.0, 0.5])])
def test_occlusion_of_a_linear_score_is_the_sum_over_its_block(fill, x64):
    """Side by side windows: M = sum over the block of r (x - fill), exactly."""
    x, r = draw(2, *SIZE, 3), draw(2, *SIZE, 3, seed=1)
    filled = x.mean((1, 2), keepdims=True) if fill is None else fill
    blocks = (r * (x - filled)).reshape(2, 2, 2, 2, 3, 3).sum((2, 4, 5))
    maps = explained(
        fam_jax.occlusion(fam_jax.dot, window=(2, 3), stride=(2, 3), fill=fill),
        flat,
        x,
        r.reshape(2, -1),
    )
    assert_close(maps, blocks.repeat(2, 1).repeat(3, 2), rtol=1e-10)


def test_occlusion_averages_the_windows_at_a_pixel(x64):
    """Overlapping windows, the last moved back to the edge, against loops."""
    encode, x, r = case(b=1, dtype=np.float64)
    total, count = np.zeros(SIZE), np.zeros(SIZE)
    whole = cosines(encode, x, r[0])[0]
    for top in (0, 1):  # windows of 3 in 4 rows, 4 apart were it not for the edge
        for left in (0, 2):  # windows of 4 in 6 columns
            copy = np.array(x)
            copy[:, top : top + 3, left : left + 4] = np.mean(copy, (1, 2))
            total[top : top + 3, left : left + 4] += whole - cosines(encode, copy, r[0])[0]
            count[top : top + 3, left : left + 4] += 1
    maps = explained(fam_jax.occlusion(window=(3, 4), stride=(2, 3), chunk=3), encode, x, r)
    assert_close(maps[0], total / count, rtol=1e-10)


# RISE


def test_rise_masks_are_shifted_grids_enlarged():
    """Against our own interpolation of the same draws; 3 cells in 4 x 6 pixels are 2 x 2 large."""
    masks = grid_masks(KEY, jnp.arange(20), SIZE, 3, 0.5)

    draws = jax.vmap(
        lambda index: jax.random.uniform(jax.random.fold_in(KEY, index), (11,), jnp.float32)
    )(jnp.arange(20))
    for mask, u in zip(np.asarray(masks), np.asarray(draws), strict=True):
        top, left = np.floor(2 * u[:2]).astype(int)
        large = bilinear(u[2:].reshape(3, 3) < 0.5, (8, 8))
        assert_close(mask, large[top : top + 4, left : left + 6], relative_to=1, rtol=1e-6)


def test_rise_is_the_sum_over_its_masks():
    encode, x, r = case()
    masks = np.asarray(grid_masks(KEY, jnp.arange(6), SIZE, 2, 0.5))
    maps = explained(fam_jax.rise(key=KEY, masks=6, cells=2, chunk=4), encode, x, r)
    for n in range(2):
        scores = cosines(encode, np.asarray(x)[n] * masks[..., None], r[n])
        by_hand = (scores[:, None, None] * masks).sum(0) / (6 * 0.5)
        assert_close(maps[n], by_hand)


def test_rise_of_a_linear_score_has_the_expected_map():
    """E[M_x] = sum_y a_y E[m_x m_y] / p, the expectation over every shift and cell in closed form.

    For a shift, m = W g with independent cells g, so E[m_x m_y] = p^2 + p (1 - p) sum_c W_xc W_yc.
    """
    count, keep, a = 4000, 0.3, draw(4, 4)
    second = 0
    for top in range(2):
        for left in range(2):
            cells = [
                bilinear(np.eye(4)[c].reshape(2, 2), (6, 6))[top : top + 4, left : left + 4]
                for c in range(4)
            ]
            W = np.stack([cell.ravel() for cell in cells], 1)
            second += (keep**2 + keep * (1 - keep) * W @ W.T) / 4
    expected = (second @ a.ravel() / keep).reshape(4, 4)
    masks = np.asarray(grid_masks(KEY, jnp.arange(count), (4, 4), 2, keep))
    samples = masks * (masks * a).sum((1, 2), keepdims=True) / keep
    error = samples.std(0) / np.sqrt(count)
    ones, reference = jnp.ones((1, 4, 4, 1)), jnp.asarray(a.reshape(1, -1), jnp.float32)
    maps = explained(
        fam_jax.rise(fam_jax.dot, key=KEY, masks=count, cells=2, keep=keep, chunk=500),
        flat,
        ones,
        reference,
    )
    assert np.all(np.abs(maps[0] - expected) < 4 * error)
    assert error.max() < 0.1 * np.abs(expected).max(), "too few masks to tell anything"


# CorrRISE


def test_corr_rise_is_numpys_correlation(x64):
    """In chunks that do not divide the masks; 0 for a pixel that is visible in all of them."""
    encode, x, r = case(dtype=np.float64)
    masks = np.asarray(patch_masks(KEY, jnp.arange(10), SIZE, 1, 2))
    maps = explained(
        fam_jax.corr_rise(key=KEY, masks=10, patches=1, patch=2, chunk=4), encode, x, r
    )
    assert masks.all(0).any()
    for n in range(2):
        scores = cosines(encode, np.asarray(x)[n] * masks[..., None], r[n])
        by_hand = np.zeros(SIZE)
        for i, j in np.ndindex(*SIZE):
            if not masks[:, i, j].all():
                by_hand[i, j] = np.corrcoef(scores, masks[:, i, j])[0, 1]
        assert_close(maps[n], by_hand, rtol=1e-10)


def test_corr_rise_keeps_its_digits_far_from_zero():
    """Scores around 1000 that differ by 1: sums of squares in float32 would leave no digit."""
    x, r = draw(1, *SIZE, 1).astype(np.float32), jnp.ones((1, 25))
    far = lambda x: jnp.pad(flat(x), ((0, 0), (0, 1)), constant_values=1000)  # noqa: E731
    options = {"masks": 40, "patch": 2, "chunk": 4}
    plain = explained(fam_jax.corr_rise(fam_jax.dot, key=KEY, **options), flat, x, r[:, :24])
    maps = explained(fam_jax.corr_rise(fam_jax.dot, key=KEY, **options), far, x, r)
    # Of the scores, 1e-7 of 1000 is rounding.
    assert_close(maps, plain, relative_to=1, rtol=1e-3)


def test_corr_rise_says_nothing_of_a_constant_score():
    x, r = jnp.ones((1, *SIZE, 3)), jnp.ones((1, 3))
    constant = lambda x: 0 * x.mean((1, 2)) + jnp.array([[0.3, 0.1, 0.7]])  # noqa: E731
    assert not explained(fam_jax.corr_rise(key=KEY, masks=9, patch=2), constant, x, r).any()


def test_patches_lie_inside_and_reach_every_pixel():
    masks = np.asarray(patch_masks(KEY, jnp.arange(200), SIZE, 1, 3))
    assert ((~masks).sum((1, 2)) == 9).all()
    assert (~masks).any(0).all()


# Score-CAM


@pytest.mark.parametrize("channels", [None, 2])
def test_score_cam_is_its_loop_over_channels(channels, x64):
    encode, x, r = case(dtype=np.float64)
    maps = explained(fam_jax.score_cam(fam_jax.dot, channels=channels, chunk=2), encode, x, 5 * r)
    A = np.asarray(encode(x).activations, np.float64)
    for n in range(2):
        active = np.argsort(-A[n].mean((0, 1)))[:channels]
        scores = []
        for k in active:
            H = bilinear(A[n, :, :, k], SIZE)
            H = (H - H.min()) / (H.max() - H.min())
            z = encode(x[n : n + 1] * jnp.asarray(H)[None, ..., None]).embeddings[0]
            scores.append(np.asarray(z, np.float64) @ (5 * np.asarray(r[n])))
        gains = np.array(scores) - 0.7  # any baseline: the softmax forgets it
        weights = np.exp(gains) / np.exp(gains).sum()
        by_hand = np.maximum(0, (weights * A[n][..., active]).sum(-1))
        assert_close(maps[n], by_hand, rtol=1e-10)
        assert by_hand.max() > 0


# LOTS


@pytest.mark.parametrize("toward", [False, True])
def test_lots_of_a_linear_score_by_hand(toward, x64):
    """Each step moves by rate r / max |r|; grey of the sum, in absolute value, then smoothed."""
    x, r = draw(2, *SIZE, 3), draw(2, *SIZE, 3, seed=1)
    options = {"toward": toward, "steps": 4, "rate": 0.25}
    moved = r / np.abs(r).max((1, 2, 3), keepdims=True)
    grey = np.abs(moved @ np.array([0.2989, 0.587, 0.114]))
    args = flat, x, r.reshape(2, -1)
    assert_close(explained(fam_jax.lots(fam_jax.dot, kernel=1, **options), *args), grey, rtol=1e-10)
    window = np.exp(-0.5 * (np.arange(-2, 3) / (0.3 * (2 - 1) + 0.8)) ** 2)  # OpenCV's sigma for 5
    window /= window.sum()
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    smooth = np.zeros_like(grey)
    for i, j in np.ndindex(5, 5):
        smooth += window[i] * window[j] * padded[:, i : i + 4, j : j + 6]
    assert_close(
        explained(fam_jax.lots(fam_jax.dot, kernel=5, **options), *args), smooth, rtol=1e-10
    )


def test_lots_moves_the_score_its_way(x64):
    encode, x, r = case(dtype=np.float64)
    embed = jax.jit(lambda x: encode(x).embeddings)
    run = jax.jit(partial(walk, embed, fam_jax.cosine), static_argnums=3)
    before = fam_jax.cosine.score(embed(x), r)
    for sign in (-1, 1):
        one, ten = (run(x, r, sign * 0.05, steps) for steps in (1, 10))
        assert_close(np.abs(one - x).max((1, 2, 3)), np.full(2, 0.05), rtol=1e-10)
        gains = [sign * (fam_jax.cosine.score(embed(x), r) - before) for x in (one, ten)]
        assert np.all(gains[0] > 0)
        assert np.all(gains[0] < gains[1])


def test_a_kernel_larger_than_the_picture_keeps_the_mass():
    x, r = draw(1, *SIZE, 1), draw(1, 24, seed=1).astype(np.float32)
    maps = explained(fam_jax.lots(fam_jax.dot, steps=1, kernel=49), flat, x.astype(np.float32), r)
    assert jnp.ptp(maps) < 0.1 * jnp.max(maps)
