"""Which files a checkpoint is: pieces with a list of them, folders, endings, shared tensors."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports.checkpoints import CheckpointError, read
from pretrained_ports.conversion import convert_file
from tests.ports.theirs import behind, one_value, tensors
from tests.ports.torch_bytes import pickled, tensor, write_zip

NAME = "cifar-resnet20"
ONE, TWO = tensors(NAME, 1.0), tensors(NAME, 2.0)
VECTOR = np.ones(4, np.float32)


def in_pieces(folder, arrays, name="model.safetensors.index.json"):
    """A checkpoint in two files, with the list of which tensor is where."""
    keys = sorted(arrays)
    places = {key: f"model-{1 + (i % 2)}-of-2.safetensors" for i, key in enumerate(keys)}
    for place in set(places.values()):
        save_file({key: arrays[key] for key in keys if places[key] == place}, folder / place)
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return folder / name


def test_a_checkpoint_in_pieces(tmp_path):
    """By its list, or by its folder; its hash is that of all pieces."""
    theirs, out = tmp_path / "theirs", tmp_path / "b.safetensors"
    theirs.mkdir()
    index = in_pieces(theirs, behind("module.", ONE))
    for source in (index, theirs):
        assert one_value(pretrained_ports.load(NAME, source)) == 1
    convert_file(theirs, out)
    before = read(out).metadata["source_sha256"]
    in_pieces(theirs, behind("module.", TWO))
    convert_file(index, out, overwrite=True)
    assert read(out).metadata["source_sha256"] != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[" * 100_000, "no list of the pieces"),
        ("{}", "no list of the pieces"),
        ('{"weight_map": 3}', "no list of the pieces"),
        ('{"weight_map": {"w": 3}}', "no list of the pieces"),
        ('{"weight_map": {"w": "../a.safetensors"}}', "names what is no checkpoint beside it"),
        ('{"weight_map": {"w": "/a.safetensors"}}', "names what is no checkpoint beside it"),
        ('{"weight_map": {"w": "a.index.json"}}', "names what is no checkpoint beside it"),
        ('{"weight_map": {"w": "a.safetensors"}}', "a.safetensors does not exist"),
        ('{"weight_map": {"w": "b.safetensors"}}', "b.safetensors has no tensor w, which"),
    ],
)
def test_lists_of_pieces_that_are_none(tmp_path, text, message):
    save_file({"v": VECTOR}, tmp_path / "b.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path / "model.safetensors.index.json")
    assert "\n" not in str(caught.value)


def test_folders_with_one_checkpoint_or_several(tmp_path):
    save_file(ONE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"the same")
    assert one_value(pretrained_ports.load(NAME, tmp_path)) == 1
    save_file(TWO, tmp_path / "other.SAFETENSORS")
    with pytest.raises(CheckpointError, match=r"several checkpoints, name one: model\."):
        read(tmp_path)


@pytest.mark.parametrize("ending", [".SAFETENSORS", ".PTH", ".Pth.Tar", ".BIN"])
def test_endings_in_upper_case(tmp_path, ending):
    file = tmp_path / f"A{ending}"
    if ending == ".SAFETENSORS":
        save_file({"w": VECTOR}, file)
    else:
        write_zip(file, pickled({"w": tensor()}), {"0": bytes(24)})
    assert list(read(file).tensors) == ["w"]


def test_tensors_that_safetensors_left_out_since_they_are_anothers(tmp_path):
    """As its `save_model` does: the header says whose they are."""
    arrays = dict(ONE)
    del arrays["layer1.0.bn1.bias"], arrays["layer1.1.bn1.bias"]
    header = {name: "bn1.bias" for name in ONE if name not in arrays}
    save_file(arrays, tmp_path / "a.safetensors", header | {"format": "pt"})
    assert one_value(pretrained_ports.load(NAME, tmp_path / "a.safetensors")) == 1


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a.pth is no regular file"):
        read(tmp_path / "a.pth")
