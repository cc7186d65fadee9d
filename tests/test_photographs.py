"""The demonstration's photographs: nothing of what is asked was ever shown."""

import numpy as np
import pytest

from fam_jax.io import photographs


@pytest.fixture(scope="module")
def photos():
    return photographs.load()


def test_every_photograph_is_there(photos):
    assert len(photos) == len({p.name for p in photos}) == 18
    assert all(min(p.image.shape[:2]) == 256 and p.image.dtype == np.uint8 for p in photos)


@pytest.mark.parametrize("side", [64, 99, 256])
def test_quarters_cover_the_photograph_once(side):
    for photo in photographs.load(side):
        covered = np.zeros(photo.image.shape[:2], int)
        for box in (*photo.training, *photo.held_out):
            covered[box.top : box.bottom, box.left : box.right] += 1
        assert (covered == 1).all(), photo.name


@pytest.mark.parametrize("quarter", [0, 1])
def test_crops_are_held_out(photos, quarter):
    """Crops of a picture that is white where held out, black where trained on, are white."""
    for photo in photos:
        image = np.zeros_like(photo.image)
        box = photo.held_out[quarter]
        image[box.top : box.bottom, box.left : box.right] = 255
        marked = photographs.Photograph(photo.name, image)
        rng = np.random.default_rng(0)
        for _ in range(20):
            assert (photographs.draw(marked, rng, quarter, size=16) == 255).all(), photo.name


def test_mosaics_are_made_of_the_crops_they_name():
    """With every photograph one grey level, cells and references say where they come from."""
    photos = [photographs.Photograph(str(i), np.full((256, 300, 3), i, np.uint8)) for i in range(9)]
    games = photographs.mosaics(photos, np.random.default_rng(0), count=20, size=8)
    assert games.images.shape == (20, 16, 16, 3)
    levels = games.images[:, ::8, ::8, 0].reshape(20, 4)
    assert (levels == games.cells).all()
    assert all(len(set(cells)) == 4 for cells in games.cells.tolist())
    assert (games.references == games.targets[:, None, None, None]).all()
    assert (games.masks.mean((1, 2)) == 0.25).all()
    right = (games.images[..., 0] == games.targets[:, None, None]) == games.masks
    assert right.all()


def test_the_same_seed_draws_the_same(photos):
    one, two = (photographs.mosaics(photos, np.random.default_rng(3), 2) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
