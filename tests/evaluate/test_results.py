"""What a run of `evaluate` left behind is read like any file: whole, or said to be damaged."""

import numpy as np
import pytest

from fam_jax.evaluate.results import Results

DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 3],
    "other": lambda data: b"something else",
    "bytes": lambda data: bytes(range(128, 256)),
}


@pytest.fixture
def results(tmp_path):
    made = Results(tmp_path / "run", {"task": "mosaic"})
    values = {"hit": np.float32([1, 0]), "mass": np.float32([0.5, 0.25])}
    made.add("fam", ["a", "b"], values, {"maps": np.ones((2, 8, 8), np.float32)})
    return made


def test_what_is_whole_is_done(results):
    assert results.has("fam")
    assert not results.has("rise")
    assert results.values("fam")["mass"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_a_damaged_method_is_measured_again_and_read_by_nobody(results, suffix, how):
    file = results.folder / "methods" / f"fam.{suffix}"
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    assert not results.has("fam")
    with pytest.raises(ValueError, match=rf"fam\.{suffix} is damaged: remove it"):
        (results.values if suffix == "csv" else results.arrays)("fam")


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "null"])
def test_damaged_settings_are_one_line(results, text):
    (results.folder / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        Results(results.folder, {"task": "mosaic"})
