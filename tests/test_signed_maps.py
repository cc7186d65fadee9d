"""Signed maps are drawn around 0, and what is no map is not drawn, wherever maps are drawn."""

import numpy as np
import pytest
from PIL import Image

from fam_jax import plot, report
from fam_jax.plot import heat
from fam_jax.plot.figures import NOTHING, SIGNED
from fam_jax.store import Row
from fam_jax.training.strips import strip

GREY = np.full((32, 32, 3), 128, np.uint8)
BELOW = -np.eye(4, dtype=np.float32)  # 0 off the diagonal: no evidence there
SIGNED_MAP = np.float32([[1, 0], [0, -4]])


def test_where_a_map_is_0_nothing_is_painted():
    drawn = plot.overlay(GREY, BELOW).astype(int)
    assert np.abs(drawn[:4, -4:] - 128).max() <= 1
    red, _, blue = drawn[1, 1]
    assert blue > red


def test_red_is_above_0_and_blue_below_as_strong_as_they_are():
    drawn = plot.overlay(GREY, np.kron(SIGNED_MAP, np.ones((8, 8), np.float32))).astype(int)
    (red, _, blue), (red2, _, blue2) = drawn[2, 2], drawn[-3, -3]
    assert red > blue
    assert blue2 > red2
    assert np.abs(drawn[-3, -3] - 128).max() > np.abs(drawn[2, 2] - 128).max()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_drawn(odd):
    heat = np.eye(4, dtype=np.float32)
    heat[0, 3] = odd
    assert (plot.overlay(GREY, heat) == 128).all()
    figure = plot.pair_figure(GREY, GREY, heat, BELOW)
    assert {ax.get_title() for ax in figure.axes} >= {NOTHING, SIGNED}


def test_maps_without_a_sign_are_drawn_as_before():
    heat = np.eye(4, dtype=np.float32) + 2
    assert plot.overlay(GREY, heat).tolist() == plot.overlay(GREY, heat, limits=(2, 3)).tolist()


def rows(*maps):
    return [
        Row(i, str(i), None, "a.png", "b.png", 0.5, query_map=m, reference_map=m)
        for i, m in enumerate(maps)
    ]


class Pairs:
    path, settings = "memory", {"model": "tiny"}

    def __init__(self, *maps):
        self.made = rows(*maps)

    def __len__(self):
        return len(self.made)

    def scores(self):
        return np.float32([row.score for row in self.made])

    def status(self):
        return np.uint8([row.status for row in self.made])

    def rows(self, indices):
        return [self.made[i] for i in indices]


def test_a_report_draws_them_alike(tmp_path):
    report.write(Pairs(BELOW), tmp_path, read=lambda path: Image.fromarray(GREY))
    with Image.open(tmp_path / "map-0000000-query.png") as file:
        rgba = np.asarray(file.convert("RGBA")).astype(int)
    assert rgba[0, -1, 3] == 0
    assert rgba[5, 5, 2] > rgba[5, 5, 0]
    assert rgba[5, 5, 3] == 255
    assert SIGNED in (tmp_path / "index.html").read_text()
    assert "below 0 on" in heat.describe(heat.scaled(SIGNED_MAP, (32, 32)))


def test_the_strip_leaves_out_what_is_not_valid(tmp_path):
    (tmp_path / "maps").mkdir()
    np.savez(tmp_path / "probe.npz", query_0=GREY, reference_0=GREY)
    looks = {"scores": np.float32([0.5]), "query_maps": [np.eye(4)], "reference_maps": [np.eye(4)]}
    canvases = []
    for valid in (False, True):
        np.savez(tmp_path / "maps" / "step-00000000.npz", valid=[valid], **looks)
        canvases.append(np.asarray(strip(tmp_path).axes[0].images[0].get_array()))
    painted = np.ptp(canvases[1].astype(int), axis=2).any(), np.ptp(canvases[0], axis=2).any()
    assert painted == (True, False)
