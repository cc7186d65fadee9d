"""The example of every framework finds one map."""

import re

import numpy as np
import pytest

from tests.run_example import run_example

pytestmark = pytest.mark.numerics


def test_the_example_finds_one_map_in_every_framework(tmp_path, monkeypatch, capsys):
    for package in ("equinox", "keras"):
        pytest.importorskip(package)
    figure = tmp_path / "any_model.png"
    output = run_example(monkeypatch, capsys, "any_model.py", "--out", figure)
    rows = re.findall(r"maps (\(.*\))  similarity (\S+)$", output, re.M)
    shapes, scores = zip(*rows, strict=True)
    assert len(rows) == 5
    assert len(set(shapes)) == 1
    assert np.ptp(np.array(scores, float)) < 2e-4  # rounded to four places
    assert figure.stat().st_size > 10_000
