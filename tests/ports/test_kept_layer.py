"""The one linear layer in a classifier's place, behind which metric learning has its embedding."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports.checkpoints import Checkpoint, CheckpointError, read
from pretrained_ports.conversion import convert_file
from pretrained_ports.models.state import parameters
from tests.close import assert_close
from tests.commands import run
from tests.ports import network
from tests.ports.theirs import behind, of, opened, tensors

CIFAR = "cifar-resnet20"
RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.standard_normal((5, 64)).astype("f"), RNG.standard_normal(5).astype("f")


def load(name, content, **options):
    return pretrained_ports.load(name, Checkpoint(Path("a.pth"), content), **options)


def layer(name, width, outputs=7, bias=True):
    """A linear layer at a path."""
    made = {f"{name}.weight": np.ones((outputs, width), "f")}
    return made | ({f"{name}.bias": np.ones(outputs, "f")} if bias else {})


def test_kept_the_embedding_is_what_leaves_it():
    """W z + b of the embedding z that enters it; the report says how, and what was left out."""
    content = of(pretrained_ports.create(CIFAR).model)
    content |= {"linear.weight": WEIGHT, "linear.bias": BIAS}
    dropped, kept = load(CIFAR, content), load(CIFAR, content, head="keep")
    assert (dropped.embedding_dim, kept.embedding_dim) == (64, 5)
    said = "linear (64 -> 5) was left out, the embedding is what enters it: "
    assert said + 'head="keep" (--head keep)' in str(dropped.report)
    assert "left out" not in str(kept.report)
    assert kept.report.used["linear.weight"] == "head.0.kernel"
    images = RNG.standard_normal((2, 32, 32, 3), np.float32)
    z = network.embed(dropped.model, images)
    terms = np.abs(z) @ np.abs(WEIGHT).T
    assert_close(network.embed(kept.model, images), z @ WEIGHT.T + BIAS, relative_to=terms)


TAKEN = {
    "torchvision": ("resnet18", layer("fc", 512), "fc.weight"),
    "without a bias": ("resnet18", layer("fc", 512, bias=False), "fc.weight"),
    "cifar": (CIFAR, layer("linear", 64), "linear.weight"),
    "timm's ViT": ("vit-tiny-patch16", layer("head", 192), "head.weight"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_every_family_that_takes_one(case):
    name, more, key = TAKEN[case]
    kept = load(name, tensors(name) | more, head="keep")
    assert (kept.embedding_dim, kept.report.used[key]) == (7, "head.0.kernel")


NOT_TAKEN = {
    "two layers": (
        "deit-tiny-patch16-distilled",
        layer("head", 192) | layer("head_dist", 192),
        "no projection head to keep",
    ),
    "another width": ("resnet18", layer("fc", 99), r"its head does not fit embeddings \[512\]"),
    "no matrix": (CIFAR, {"linear.weight": np.ones((7, 64, 1), "f")}, "no projection head to keep"),
    "only a bias": (CIFAR, {"linear.bias": np.ones(7, "f")}, "no projection head to keep"),
    "another family": ("resnet12", layer("classifier", 640), "head: resnet12 takes none"),
    "convnext": ("convnext-tiny", {}, "head: convnext-tiny takes none"),
    "conv4": ("conv4", {}, "head: conv4 takes none"),
}


@pytest.mark.parametrize("case", NOT_TAKEN)
def test_what_is_no_such_layer_is_refused_in_a_line(case):
    name, more, message = NOT_TAKEN[case]
    with pytest.raises(ValueError, match=message) as caught:
        load(name, tensors(name) | more, head="keep")
    assert "\n" not in str(caught.value)


LAYER = {"weight": WEIGHT, "bias": BIAS}
NETWORK = tensors(CIFAR, 0.01)
# Files with the layer in a place of its own, and its path there.
BESIDE = {
    "a dictionary": ({"backbone": NETWORK, "head": LAYER}, "head"),
    "one without a bias": ({"backbone": NETWORK, "head": {"weight": WEIGHT}}, "head"),
    "with a name in it": (
        {"trunk": behind("module.", NETWORK), "embedder": behind("module.fc.", LAYER)},
        "embedder.module.fc",
    ),
    "a prefix": (behind("backbone.", NETWORK) | behind("head.", LAYER), "head"),
    "two deep": (
        {"model": {"net": NETWORK, "neck": LAYER}, "optimizer": {"a": np.ones(3, "f")}},
        "model.neck",
    ),
    "beside a wrapper": ({"state_dict": behind("module.", NETWORK), "head": LAYER}, "head"),
    "in the network's dictionary": (NETWORK | {"head": LAYER, "epoch": 3}, "head"),
}


@pytest.mark.parametrize("case", BESIDE)
def test_a_layer_beside_the_network_is_kept(tmp_path, case):
    """As one of its own dictionary is: the report says it was left out, or where it went."""
    content, path = BESIDE[case]
    checkpoint = opened(content, tmp_path)
    dropped = pretrained_ports.load(CIFAR, checkpoint)
    assert dropped.embedding_dim == 64
    assert dropped.report.left_out()[0].startswith(f"{path} (64 -> 5) was left out")
    kept = pretrained_ports.load(CIFAR, checkpoint, head="keep")
    assert (kept.embedding_dim, kept.report.left_out()) == (5, [])
    assert kept.report.used[f"{path}.weight"] == "head.0.kernel"
    assert kept.report.ignored.keys() < dropped.report.ignored.keys()
    np.testing.assert_array_equal(kept.model.head[0].kernel[...], WEIGHT.T)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"head": LAYER, "loss": dict(LAYER)}, "several layers that may be a head: head, loss"),
        ({"head": {"weight": WEIGHT[:, :9]}}, "no projection head to keep"),
        ({"head": {"0.weight": WEIGHT, "2.weight": WEIGHT}}, "no projection head to keep"),
        ({"head": {"weight": WEIGHT, "bias": BIAS[:3]}}, "no projection head to keep"),
        ({"head": {"weight": WEIGHT.astype(int)}}, "no projection head to keep"),
        ({"head": {"weight": WEIGHT * np.nan}}, "not finite"),
    ],
)
def test_what_is_beside_and_no_head_is_refused_in_a_line(tmp_path, beside, message):
    checkpoint = opened({"backbone": NETWORK, **beside}, tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        pretrained_ports.load(CIFAR, checkpoint, head="keep")
    assert "\n" not in str(caught.value)


def test_of_a_head_and_a_classifier_the_head_is_kept():
    """Self-supervised files may have both: bolts' SimCLR."""
    content = behind("encoder.", tensors("resnet18")) | layer("encoder.fc", 512)
    content |= {"projection.model.0.weight": np.ones((6, 512), "f")}
    kept = load("resnet18", content, head="keep")
    assert (kept.report.dialect, kept.embedding_dim) == ("simclr-bolts", 6)
    assert "encoder.fc.weight" in kept.report.ignored


def test_it_is_kept_by_convert_and_by_the_commands(here):
    file = here / "metric.safetensors"
    save_file(tensors(CIFAR, 0.01) | {"linear.weight": WEIGHT, "linear.bias": BIAS}, file)
    backbone = convert_file(file, here / "kept.safetensors", head="keep")
    assert backbone.name == CIFAR
    assert read(here / "kept.safetensors").tensors["head.0.kernel"].shape == (64, 5)
    again = pretrained_ports.load(CIFAR, here / "kept.safetensors", head="keep")
    assert again.embedding_dim == 5
    pair = ("explain", "some/a.png", "some/b.png", "--weights", file)
    said = run(*pair, "-o", "dropped")
    assert "weights: linear (64 -> 5) was left out" in said.output, said.output
    said = run(*pair, "--head", "keep", "-o", "kept")
    assert (said.exit_code, "left out" in said.output) == (0, False), said.output


@pytest.mark.parametrize(
    "more",
    [
        {"head.999999999.kernel": np.ones((128, 3), "f")},
        {"head.0.kernel": np.ones(5, "f")},
        {"head.0.kernel": np.ones((128, 3), "f"), "head.1.mean": np.ones((3, 3), "f")},
    ],
    ids=["number", "rank of a kernel", "rank of a mean"],
)
def test_a_native_file_with_a_head_that_is_none(more):
    model = pretrained_ports.create("tiny").model
    native = {path: np.asarray(value) for path, value in parameters(model).items()}
    with pytest.raises(CheckpointError, match="no place in the model: head"):
        load("tiny", native | more, head="keep")


def test_a_kernel_of_another_rank():
    """Of a family whose rows vary with the shapes of a file."""
    content = tensors("conv4") | {"block1.conv.weight": np.ones(4, "f")}
    with pytest.raises(CheckpointError, match="does not fit conv4"):
        load("conv4", content)
    native = {"block1.conv.kernel": np.ones(4, "f")}
    with pytest.raises(CheckpointError, match="does not fit conv4"):
        load("conv4", native)
