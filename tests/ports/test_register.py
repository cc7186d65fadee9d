"""A network of a user's own in the catalog."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import pretrained_ports
from fam_jax.apps.main import main
from pretrained_ports import Entry, Preprocess
from pretrained_ports.catalog import ENTRIES, describe
from pretrained_ports.checkpoints import write
from pretrained_ports.models.layers import as_input
from pretrained_ports.models.state import parameters
from tests.documents import blocks
from tests.ports import network

ROOT = Path(__file__).resolve().parents[2]
NAME = "edges"
PARAMETERS = 3 * 3 * 3 * 8 + 8 + 8 * 4 + 4


class Edges(nnx.Module):
    """Of no class of ours, with what a network may hold beside its parameters."""

    def __init__(self, *, rngs, param_dtype=jnp.float32):
        init = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv = nnx.Conv(3, 8, (3, 3), **init)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.linear = nnx.Linear(8, 4, **init)
        self.gain = nnx.Variable(jnp.full((1, 4), 2, param_dtype))
        self.shift = jnp.full((1, 4), 1, param_dtype)

    def __call__(self, images):
        x = as_input(images, like=self.conv, smallest=3)
        x = self.drop(nnx.relu(self.conv(x)))
        return self.linear(x.mean((1, 2))) * self.gain[...] + self.shift


def entry(**changes) -> Entry:
    row = {
        "family": "my own",
        "build": Edges,
        "layer": "conv",
        "preprocess": Preprocess(size=(32, 40), resize=None),
    }
    return Entry(**row | changes)


@pytest.fixture(autouse=True)
def catalog():
    """What a test registers is forgotten."""
    names = list(ENTRIES)
    yield
    for name in set(ENTRIES) - set(names):
        del ENTRIES[name]
    assert list(ENTRIES) == names


@pytest.fixture
def registered():
    pretrained_ports.register(NAME, entry())


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((2, 32, 40, 3), np.float32)


def test_it_is_among_the_names_and_created_with_random_weights(registered, images):
    assert pretrained_ports.names()[-1] == NAME
    backbone = pretrained_ports.create(NAME, seed=1)
    assert (backbone.name, backbone.layer, backbone.embedding_dim) == (NAME, "conv", 4)
    assert backbone.source == "random weights, seed 1"
    other = pretrained_ports.create(NAME, seed=2)
    assert (network.embed(backbone.model, images) != network.embed(other.model, images)).any()


def test_the_file_that_it_wrote_is_loaded_whole(registered, images, tmp_path):
    random = np.random.default_rng(3)
    model = Edges(rngs=nnx.Rngs(0))
    for path, value in parameters(model).items():
        layer, leaf = path.split(".")
        array = random.standard_normal(value.shape, np.float32)
        setattr(getattr(model, layer), leaf, nnx.Param(jnp.asarray(array)))
    model.eval()
    file = write(tmp_path / "mine.safetensors", model, {"architecture": NAME})
    backbone = pretrained_ports.load(NAME, file)
    assert backbone.report.dialect == "native"
    assert set(backbone.report.used) == set(parameters(model))
    np.testing.assert_array_equal(
        network.embed(backbone.model, images), network.embed(model, images)
    )


def test_dropout_is_off_and_constants_are_those_of_the_constructor(registered, images):
    model = pretrained_ports.create(NAME, param_dtype="bfloat16").model
    assert model.gain[...].tolist() == [[2.0] * 4]
    assert model.shift.tolist() == [[1.0] * 4]
    assert model.shift.dtype == model.conv.kernel.dtype == jnp.bfloat16
    np.testing.assert_array_equal(network.embed(model, images), network.embed(model, images))


def test_it_has_a_row_with_its_parameters_counted_and_layers(registered):
    row = describe.table()[-1]
    assert row == describe.row(NAME)
    assert row[:4] == (NAME, "my own", PARAMETERS, "32 x 40 x 3")
    assert describe.Layer("conv", (32, 40, 8)) in describe.layers(NAME)


def command(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    assert (stopped.value.code, out.err) == (0, "")
    return out.out


def test_the_command_converts_files_to_it(registered, capsys, tmp_path):
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write(source, Edges(rngs=nnx.Rngs(0)), {"architecture": NAME})
    assert command(capsys, "convert", source, target).endswith(f"wrote {target} (edges)\n")
    assert pretrained_ports.load(NAME, target).report.fits


def test_a_file_of_a_part_is_refused(registered, tmp_path):
    save_file({"conv.kernel": np.zeros((3, 3, 3, 8), np.float32)}, tmp_path / "part.safetensors")
    with pytest.raises(pretrained_ports.CheckpointError, match="does not fit edges"):
        pretrained_ports.load(NAME, tmp_path / "part.safetensors")


def test_the_command_lists_it(registered, capsys):
    last = command(capsys, "models").splitlines()[-1]
    assert last.split() == [NAME, "my", "own", "0.0", "M", "32", "x", "40", "x", "3"]
    assert "conv, grid 32 x 40" in command(capsys, "models", NAME)


def test_the_example_of_the_documents_runs(monkeypatch, tmp_path):
    (example,) = blocks((ROOT / "docs" / "ports.md").read_text(), "python")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    assert names["backbone"].report.dialect == "native"
    assert names["backbone"].source == "edges.safetensors"


def test_a_name_that_is_taken_is_refused_unless_by_the_same_entry(registered):
    pretrained_ports.register(NAME, entry())
    with pytest.raises(ValueError, match=r"^there is a model 'edges' already; register yours"):
        pretrained_ports.register(NAME, entry(layer="linear"))
    with pytest.raises(ValueError, match="there is a model 'resnet50' already"):
        pretrained_ports.register("resnet50", entry())
    assert ENTRIES[NAME].layer == "conv"


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_name_and_no_entry_is_refused():
    with pytest.raises(TypeError, match=r"^name: expected a string, got 3$"):
        pretrained_ports.register(3, entry())
    with pytest.raises(TypeError, match=r"^entry of 'edges': expected an Entry, got Edges$"):
        pretrained_ports.register(NAME, Edges(rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"^entry of 'edges': no dialect 'mine'; there are: t"):
        pretrained_ports.register(NAME, entry(dialects=("mine",)))
    assert NAME not in ENTRIES


def test_a_layer_that_it_has_not_is_told_with_those_that_it_has():
    pretrained_ports.register(NAME, entry(layer="layer4"))
    with pytest.raises(
        ValueError, match=r"edges has no layer 'layer4', its default; it has: conv, "
    ):
        describe.layers(NAME)
