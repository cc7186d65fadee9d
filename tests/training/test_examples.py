"""The examples that train with maps run as their first lines say, in their quick form."""

import functools
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pretrained_ports.checkpoints import read
from tests.run_example import EXAMPLES, run_example

for needed in ("skimage", "sklearn", "optax", "orbax.checkpoint", "tensorboardX"):
    pytest.importorskip(needed, reason="needs the extras demo and train")


@pytest.fixture
def example(monkeypatch, capsys):
    return functools.partial(run_example, monkeypatch, capsys)


@pytest.fixture
def run(example):
    return lambda script, *args: example(script, "--quick", *args)


def run_alone(script, *args):
    """In a process of its own."""
    command = [sys.executable, "-W", "error", EXAMPLES / script, "--quick", *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def is_picture(path):
    with Image.open(path) as image:
        return min(image.size) > 100 and len(set(np.asarray(image.convert("L")).ravel())) > 20


@pytest.mark.slow
def test_a_prototypical_network_stops_and_goes_on_bit_by_bit(run, tmp_path):
    """Back to the checkpoint at step 2, as a killed run is: weights and maps end the same."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    output = run("train_protonet.py", "--out", whole)
    assert re.search(r"one-shot accuracy on digits 5 to 9: 0\.\d+ \+- 0\.\d+$", output, re.M)
    assert is_picture(whole / "maps" / "strip.png")

    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "checkpoints" / "4")
    (broken / "weights.safetensors").unlink()
    assert "going on after step 2" in run_alone("train_protonet.py", "--out", broken)
    for weights in ("weights.safetensors", "maps/maps/step-00000004.npz"):
        expected, actual = (
            np.load(folder / weights) if weights.endswith("npz") else read(folder / weights).tensors
            for folder in (whole, broken)
        )
        assert set(actual) == set(expected)
        for name in expected:
            np.testing.assert_array_equal(actual[name], expected[name])


@pytest.mark.slow
def test_a_prototypical_resnet12(run, tmp_path):
    assert "640 channels" in run("train_protonet.py", "--network", "resnet12", "--out", tmp_path)


@pytest.mark.slow
def test_a_prototypical_network_of_omniglot_and_a_converted_one(run, tmp_path, assets):
    data = assets / "images" / "omniglot"
    theirs = assets / "checkpoints" / "protonet-conv4" / "omniglot_20way_1shot.pth"
    options = ("--data", data, "--out", tmp_path)
    try:
        import torch  # noqa: F401

        options += ("--against", theirs)
    except ImportError:
        theirs = None
    output = run("train_protonet.py", *options)
    assert "official 20-way one-shot runs" in output
    assert theirs is None or f"the same with {theirs.name}: 0.9" in output


@pytest.mark.slow
def test_contrastive_training_with_maps_of_mosaics(run, tmp_path):
    output = run("train_contrastive.py", "--maps", tmp_path / "maps", "--every", 1)
    assert "Recall@1" in output
    steps = sorted(file.stem for file in (tmp_path / "maps" / "maps").iterdir())
    assert steps == [f"step-{step:08}" for step in range(4)]
    assert is_picture(tmp_path / "maps" / "strip.png")


@pytest.mark.slow
def test_guided_training_reports_both_networks_and_their_difference(run, tmp_path):
    """Two pairs of networks of four steps: the figures are there, with intervals."""
    output = run("explanation_guided.py", "--out", tmp_path)
    for figure in ("accuracy, mark of a random class", "share of the map on the digit"):
        (line,) = [line for line in output.splitlines() if line.startswith(figure)]
        assert len(re.findall(r"-?\d\.\d{3} \+- \d+\.\d{3}", line)) == 3
    assert is_picture(tmp_path / "explanation_guided.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    ["--freeze --model conv4 --weights random", "--model vit-mini-patch8 --weights random"],
)
def test_a_backbone_is_fine_tuned_with_a_head(run, tmp_path, options):
    output = run("finetune_backbone.py", *options.split(), "--out", tmp_path)
    assert "backbone as it was" in output
    assert ("the backbone is unchanged" in output) == ("--freeze" in options)
    assert is_picture(tmp_path / "maps.png")


@pytest.fixture
def last_line_refusing(example, capsys):
    """The last line of a run that ends before anything is trained or written."""

    def refused(script, *args):
        with pytest.raises(SystemExit) as stop:
            example(script, *args)
        assert stop.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return refused


def test_pictures_in_too_few_folders_are_refused_in_one_line(last_line_refusing, tmp_path):
    for name in ("cats/1.png", "cats/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    last = last_line_refusing("finetune_backbone.py", "--data", tmp_path)
    assert "needs at least 4 folders, one for each class" in last
    assert last.endswith("there are: cats 2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data nowhere", "nowhere/images_background_small1.zip"),
        ("--data nowhere --against theirs.pth", "theirs.pth does not exist"),
        ("--against theirs.pth", "give its folder with --data"),
    ],
)
def test_files_that_are_missing_are_named_before_the_training(
    options, message, last_line_refusing, tmp_path
):
    out = tmp_path / "run"
    assert message in last_line_refusing("train_protonet.py", *options.split(), "--out", out)
    assert not out.exists()


@pytest.mark.slow
def test_eight_devices_train_as_one(tmp_path):
    """The script exits with 1 if they do not; its sums show that the batch is spread."""
    output = run_alone("data_parallel.py", "--out", tmp_path)
    assert "8 devices: cpu" in output
    assert re.search(r"sums over the devices in a step: [1-9]", output)
    assert is_picture(tmp_path / "strip.png")
