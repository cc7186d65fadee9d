"""Files that are not what they seem get one line each, without torch."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from pretrained_ports.checkpoints.readers import CheckpointError, read, unwrap


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", "is empty"),
        ("a.safetensors", b"just some text, and more of it", "not a safetensors file"),
        ("a.safetensors", (2**60).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        ("a.safetensors", (10**7).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        ("a.npz", b"anything", "none of the known kinds of checkpoint: .safetensors .pth"),
        ("a.pth", b"", "is empty"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_truncated_safetensors(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"w": np.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read(file)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        read(tmp_path)


def test_wrappers_come_off_in_order(tmp_path):
    weights = {"module.backbone.w": np.ones(3), "module.backbone.name": "mine"}
    content = {"epoch": 3, "model": {"teacher": weights, "student": weights}}
    checkpoint = unwrap(content, tmp_path)
    assert list(checkpoint.tensors) == ["w"]
    assert checkpoint.unwrapped == ("model", "teacher", "module.", "backbone.")
    assert checkpoint.ignored == {
        "epoch": "beside 'model'",
        "student": "beside 'teacher'",
        "module.backbone.name": "not a tensor",
    }


@pytest.mark.parametrize("content", [[np.ones(3)], {"epoch": 3}, {1: np.ones(3)}, {}, None])
def test_content_without_named_tensors(tmp_path, content):
    with pytest.raises(CheckpointError, match="holds no dictionary of tensors; found"):
        unwrap(content, tmp_path)
