"""`fam-jax convert`: any checkpoint into a file that loads without torch."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports.checkpoints.readers import CheckpointError, read, sha256
from pretrained_ports.conversion import convert_file, find_model
from pretrained_ports.models.state import parameters


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A CIFAR ResNet-20 as its authors name the layers, under the prefix of a parallel run."""
    model = pretrained_ports.create("cifar-resnet20", seed=1).model
    leaves = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    tensors = {}
    for path, value in parameters(model).items():
        module, _, leaf = path.rpartition(".")
        array = np.asarray(value)
        if leaf == "kernel":
            array = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        tensors[f"module.{module}.{leaves.get(leaf, leaf)}"] = array
    tensors["module.linear.weight"] = np.ones((10, 64), np.float32)
    tensors["module.linear.bias"] = np.ones(10, np.float32)
    file = tmp_path_factory.mktemp("theirs") / "theirs.safetensors"
    save_file(tensors, file)
    return file


@pytest.fixture(scope="module")
def converted(theirs):
    """What was written, with the account of it."""
    target = theirs.with_name("ours.safetensors")
    return target, convert_file(theirs, target)


def test_the_model_is_found_and_the_file_gives_the_same_weights(theirs, converted):
    ours, backbone = converted
    assert backbone.name == "cifar-resnet20"
    again = pretrained_ports.load("cifar-resnet20", ours)
    assert again.report.dialect == "native"
    given = parameters(again.model)
    for path, value in parameters(backbone.model).items():
        np.testing.assert_array_equal(given[path], value, err_msg=path)
    with safe_open(ours, "numpy") as file:
        header = file.metadata()
    assert header["architecture"] == "cifar-resnet20"
    assert header["source"] == "theirs.safetensors"
    assert header["source_sha256"] == sha256(theirs)
    assert header["converter_version"]


def test_a_file_of_ours_names_its_model(converted):
    assert find_model(read(converted[0])) == "cifar-resnet20"


def test_the_full_report_accounts_for_every_tensor(converted):
    text = converted[1].report.full()
    assert "dialect akamaster-cifar, unwrapped module.; 95 tensors used, 2 ignored" in text
    assert "ignored 2, the classifier; the embedding is what enters it: linear.bias" in text
    assert text.endswith("missing 0, unmatched 0")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("ours.pth", {}, r"must end in \.safetensors, got .*ours\.pth"),
        ("theirs.safetensors", {}, r"exists; pass --overwrite"),
        ("nowhere/ours.safetensors", {}, r"the folder .*nowhere does not exist"),
        ("ours.safetensors", {"model": "resnet51"}, "nearest names are: resnet50"),
        ("ours.safetensors", {"dialect": "tim"}, "no dialect 'tim'; there are: auto, "),
        ("ours.safetensors", {"model": "cifar-resnet32"}, "parameters of the model are not in"),
    ],
)
def test_bad_use_says_what_would_be_right_and_writes_nothing(
    theirs, tmp_path, target, options, message
):
    source = Path(shutil.copy(theirs, tmp_path))
    with pytest.raises(ValueError, match=message):
        convert_file(source, tmp_path / target, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["theirs.safetensors"]
    assert source.read_bytes() == theirs.read_bytes()


def test_unknown_keys_and_unknown_shapes_are_told_apart(tmp_path):
    save_file({"stem.w": np.ones(3, "f"), "head.w": np.ones(3, "f")}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"no known dialect; its first keys are: head\.w"):
        find_model(read(tmp_path / "a.safetensors"))
    save_file({"0.weight": np.ones((5, 3, 7, 7), "f")}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"shapes of no model .*--model"):
        find_model(read(tmp_path / "b.safetensors"))
