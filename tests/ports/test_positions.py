"""Positions at another size: as the project does it whose file it is, kept when it is converted."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.checkpoints import CheckpointError, write
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.conversion import convert_file
from pretrained_ports.models.positions import Resampling
from pretrained_ports.models.state import parameters
from pretrained_ports.models.vit_variants import PROJECTS, VARIANTS
from tests.commands import run
from tests.ports import network
from tests.ports.test_vit import small

NAME = "dinov2-small"
WIDE = np.random.default_rng(0).standard_normal((1, 16, 28, 3), np.float32)  # trained on 20 x 20


@pytest.fixture(scope="module", autouse=True)
def small_row():
    """The model is a small one, in `create` and in `load`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENTRIES, NAME, small(ENTRIES[NAME], depth=1))
        yield


def named_by_transformers(model):
    """Our path -> array, under the names of transformers' files."""
    tensors, block = {}, "encoder.layer.0."
    for path, value in parameters(model).items():
        array = np.asarray(value)
        name = path.replace("blocks.0.", block)
        name = name.replace("attn.proj", "attention.output.dense")
        name = name.replace("ls1.gamma", "layer_scale1.lambda1").replace(
            "ls2.gamma", "layer_scale2.lambda1"
        )
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("cls_token", "embeddings.cls_token")
        name = name.replace("pos_embed", "embeddings.position_embeddings")
        name = "layernorm." + name.removeprefix("norm.") if name.startswith("norm.") else name
        name = name.removesuffix("kernel").removesuffix("scale")
        name += "weight" if name.endswith(".") else ""
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif array.ndim == 2:
            array = array.T
        if "qkv" in name:
            thirds = zip(("query", "key", "value"), np.split(array, 3), strict=True)
            tensors |= {name.replace("attn.qkv", f"attention.attention.{k}"): x for k, x in thirds}
        else:
            tensors[name] = array
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


@pytest.fixture(scope="module")
def model():
    return pretrained_ports.create(NAME).model


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory):
    """The same weights in transformers' names."""
    file = tmp_path_factory.mktemp("theirs") / "theirs.safetensors"
    save_file(named_by_transformers(model), file)
    return file


@pytest.fixture(scope="module")
def embeddings(theirs):
    """Of a picture of another size, by project."""
    ways = {way: pretrained_ports.load(NAME, theirs, positions=way).model for way in PROJECTS}
    return {way: network.embed(model, WIDE) for way, model in ways.items()}


def header(file):
    with safe_open(file, "numpy") as opened:
        return opened.metadata()


def test_a_file_is_used_as_its_project_does(model, theirs, embeddings):
    """Its names say whose it is; weights of one's own are used as the authors do."""
    loaded = pretrained_ports.load(NAME, theirs)
    assert loaded.report.dialect == "hf-dinov2"
    assert loaded.model.positions == "transformers"
    assert np.array_equal(network.embed(loaded.model, WIDE), embeddings["transformers"])
    assert np.array_equal(network.embed(model, WIDE), embeddings["authors"])
    distances = [
        np.abs(embeddings[one] - embeddings[other]).max()
        for one, other in (PROJECTS[:2], PROJECTS[1:], PROJECTS[::2])
    ]
    assert min(distances) > 1e-4


@pytest.mark.parametrize("way", ["auto", "authors"])
def test_a_converted_file_says_whose_it_was(theirs, embeddings, tmp_path, way):
    ours = tmp_path / "ours.safetensors"
    kept = "transformers" if way == "auto" else way
    assert convert_file(theirs, ours, NAME, positions=way).model.positions == kept
    assert header(ours)["positions"] == kept
    again = pretrained_ports.load(NAME, ours)
    assert again.report.dialect == "native"
    assert np.array_equal(network.embed(again.model, WIDE), embeddings[kept])
    other = pretrained_ports.load(NAME, ours, positions="timm")  # the argument goes first
    assert np.array_equal(network.embed(other.model, WIDE), embeddings["timm"])


def test_a_model_that_is_written_again_keeps_it(theirs, tmp_path):
    model = pretrained_ports.load(NAME, theirs).model
    file = write(tmp_path / "tuned.safetensors", model, {"architecture": NAME})
    assert pretrained_ports.load(NAME, file).model.positions == "transformers"


def test_the_command(theirs, tmp_path):
    ours = tmp_path / "ours.safetensors"
    result = run("convert", theirs, ours, "--model", NAME, "--positions", "timm")
    assert result.exit_code == 0
    assert header(ours)["positions"] == "timm"


def test_the_size_of_the_training_needs_no_resampling(theirs):
    picture = np.random.default_rng(1).standard_normal((1, 20, 20, 3), np.float32)
    all_alike = [
        network.embed(pretrained_ports.load(NAME, theirs, positions=way).model, picture)
        for way in PROJECTS
    ]
    assert np.array_equal(all_alike[0], all_alike[1])
    assert np.array_equal(all_alike[0], all_alike[2])


@pytest.mark.parametrize(
    ("name", "authors", "transformers"),
    [
        ("vit-tiny-patch16", Resampling(), Resampling(False)),
        ("deit-tiny-patch16-distilled", Resampling(False), Resampling(False)),
        ("dino-small-patch8", Resampling(False, 0.1), Resampling(False)),
        ("dinov2-small", Resampling(False, 0.1), Resampling(False)),
        ("dinov2-small-reg4", Resampling(), Resampling()),
        ("clip-vit-b32", Resampling(), Resampling(False)),
        ("siglip-base-patch16", Resampling(), Resampling(False)),
    ],
)
def test_the_ways_of_every_family(name, authors, transformers):
    ways = [VARIANTS[name].resampled_by(project) for project in PROJECTS]
    assert ways == [authors, Resampling(), transformers]


def test_transformers_dialects_and_no_others():
    others = {name for name, table in DIALECTS.items() if table.positions != "authors"}
    assert others == {"hf-vit", "hf-dinov2", "hf-clip", "hf-siglip"}


def test_what_cannot_be_is_refused(model, tmp_path):
    other = write(tmp_path / "a.safetensors", model, {"architecture": NAME, "positions": "someone"})
    with pytest.raises(
        CheckpointError, match="its header has positions of 'someone'; known are au"
    ):
        pretrained_ports.load(NAME, other)
    with pytest.raises(ValueError, match=r"positions: expected auto, authors, timm, .*got 'mean'"):
        pretrained_ports.load(NAME, other, positions="mean")
    plain = pretrained_ports.create("conv4").model
    file = write(tmp_path / "b.safetensors", plain, {"architecture": "conv4"})
    assert "positions" not in header(file)
    with pytest.raises(ValueError, match="positions: conv4 has none that are fitted"):
        pretrained_ports.load("conv4", file, positions="timm")
