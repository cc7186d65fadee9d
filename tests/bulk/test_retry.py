"""Rows that failed for want of a picture are tried again by the same call once it is there."""

from pathlib import Path

import numpy as np
import pytest

from fam_jax import bulk
from tests.bulk import toy
from tests.commands import TINY, run


@pytest.fixture
def lost(tmp_path):
    """Six pictures, of which the third is away for now: where it is, and where it was."""
    paths = toy.pictures(tmp_path / "in", 6)
    Path(paths[2]).rename(tmp_path / "away.png")
    return paths, tmp_path / "away.png"


@pytest.mark.parametrize("once", [False, True])
def test_maps_of_a_picture_that_is_back(tmp_path, lost, once):
    """As if it had never been away; other chunks are not computed again."""
    paths, away = lost
    pairs = [(a, b) for a in paths[:3] for b in paths[3:]]
    steps = []

    def make(name="store", **options):
        told = {"preprocess": toy.Preprocess(), "batch": 2, "once": once, **options}
        done = bulk.run(toy.encoder(), pairs, tmp_path / name, on_step=steps.append, **told)
        return done.invalid

    assert make() == 3
    steps.clear()
    assert make() == 3  # nothing new
    assert not steps
    away.rename(paths[2])
    assert make(retry=False) == 3
    assert not steps
    assert make() == 0
    assert steps[-1].computed == 3  # chunks 3 and 4, the last of one row
    assert make("whole") == 0
    assert toy.files(tmp_path / "store") == toy.files(tmp_path / "whole")


def test_a_row_that_failed_for_another_reason_is_left(tmp_path):
    """There is nothing to show of a black picture, however often it is read."""
    paths = toy.pictures(tmp_path / "in", 2)
    steps = []

    def black(picture):
        return 0 * toy.Preprocess()(picture)

    for _ in range(2):
        steps.clear()
        told = {"preprocess": black, "on_step": steps.append}
        assert bulk.run(toy.encoder(), [tuple(paths)], tmp_path / "store", **told).invalid == 1
    assert not steps


def test_embeddings_of_a_picture_that_is_back(tmp_path, lost):
    paths, away = lost

    def make(name="index", **options):
        told = {"preprocess": toy.Preprocess(), "batch": 2, **options}
        return bulk.index(toy.encoder(), paths, tmp_path / name, **told).invalid

    assert make() == 1
    away.rename(paths[2])
    assert (make(retry=False), make(), make("whole")) == (1, 0, 0)
    assert toy.files(tmp_path / "index") == toy.files(tmp_path / "whole")
    _, rows = bulk.open_index(tmp_path / "index").search(np.ones((1, 5)), 6)
    assert set(rows[0].tolist()) == set(range(6))


def test_the_commands_try_again(tmp_path, lost):
    paths, away = lost
    (tmp_path / "pairs.csv").write_text(f"query,reference\n{paths[2]},{paths[3]}\n")
    line = ("map", tmp_path / "pairs.csv", *TINY, "--image-size", 32, "-o", tmp_path / "maps")
    assert run(*line).exit_code == 3
    away.rename(paths[2])
    assert run(*line, "--no-retry").exit_code == 3
    assert run(*line).exit_code == 0
