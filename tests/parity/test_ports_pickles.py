"""Pickled files: nothing in them runs, and broken ones get one line."""

import argparse
import os
import pickle

import ml_dtypes
import numpy as np
import pytest

from pretrained_ports.checkpoints import CheckpointError, read

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


PLACES = {
    "alone": lambda bad: bad,
    "among the weights": lambda bad: {"w": torch.ones(3), "state": bad},
    "nested": lambda bad: {"state_dict": {"w": torch.ones(3), "deep": [{"er": (1, bad)}]}},
    "in the options": lambda bad: {"w": torch.ones(3), "args": argparse.Namespace(lr=1, hook=bad)},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, kind, place):
    file = tmp_path / ("a.pkl" if kind == "pickle" else "a.pth")
    trace = tmp_path / "trace"
    content = PLACES[place](Malicious(f"touch {trace}"))
    if kind == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(
        CheckpointError, match=r"is refused: .*(system|_load_from_bytes).*nothing in it was"
    ) as e:
        read(file)
    assert "\n" not in str(e.value)
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_scripts_save_beside_the_weights_is_read(tmp_path, zipped):
    """Numbers of numpy and the options of the command line: common, and without effect."""
    content = {
        "state_dict": {"w": torch.ones(3)},
        "best": np.float64(0.9),
        "epoch": np.int64(3),
        "args": argparse.Namespace(lr=0.1, milestones=[30, 60]),
    }
    file = tmp_path / "a.pth.tar"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    if not zipped:  # as numpy 1 named its module
        file.write_bytes(file.read_bytes().replace(b"numpy._core.", b"numpy.core."))
    checkpoint = read(file)
    assert list(checkpoint.tensors) == ["w"]
    assert set(checkpoint.ignored) == {"best", "epoch", "args"}


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"refused: .*torch.nn.modules.linear.Linear"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.5, 0.05])
def test_truncated_files(tmp_path, zipped, kept):
    file = tmp_path / "a.pth"
    torch.save({"w": torch.ones(1000)}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CheckpointError, match=r"damaged|refused") as caught:
        read(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"just text\n" * 20, b"\x80\x02.", b"PK\x03\x04 not really"])
def test_other_files(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        read(tmp_path / "a.ckpt")


@pytest.mark.parametrize("zipped", [True, False])
def test_types_are_kept(tmp_path, zipped):
    weights = {
        "double": torch.arange(3, dtype=torch.float64),
        "half": torch.nn.Parameter(torch.ones(2, dtype=torch.float16)),
        "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "strided": torch.arange(6.0).reshape(2, 3).T,
    }
    torch.save(
        {"net_state_dict": weights}, tmp_path / "a.th", _use_new_zipfile_serialization=zipped
    )
    checkpoint = read(tmp_path / "a.th")
    assert checkpoint.unwrapped == ("net_state_dict",)
    assert checkpoint.tensors["brain"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(checkpoint.tensors["brain"].astype(float), [1.5, -2.0])
    assert checkpoint.tensors["double"].dtype == np.float64
    assert checkpoint.tensors["half"].dtype == np.float16
    np.testing.assert_array_equal(checkpoint.tensors["strided"], [[0, 3], [1, 4], [2, 5]])


def test_sparse_tensors_are_refused_by_name(tmp_path):
    torch.save({"w": torch.ones(3).to_sparse()}, tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match="cannot read tensor w"):
        read(tmp_path / "a.bin")
