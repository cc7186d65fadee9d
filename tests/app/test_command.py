"""`fam-jax app`: what it refuses, and which networks it holds."""

from types import SimpleNamespace

import pytest

from fam_jax.apps import app
from tests.commands import TINY, run

pytest.importorskip("gradio", reason='needs pip install ".[app]"')

REFUSED = {
    "no index": ("--index nowhere", "nowhere; fam-jax index makes one"),
    "a layer of an index": ("--index nowhere --layer layer2", "--layer: with --index this is"),
    "a part of pictures": ("--index nowhere --fit tile", "--fit tile takes other windows"),
    "no fit": ("--fit all", "--fit: expected one of crop, pad, tile"),
    "no similarity": ("--similarity cos", "did you mean 'cosine'?"),
    "no model": ("--model tinny", "no model 'tinny'; the nearest names are: tiny"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_refuses(case, here):
    options, message = REFUSED[case]
    model = () if "--model" in options or "--index" in options else TINY
    result = run("app", *model, *options.split(), "--no-browser")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_networks_are_opened_once_and_the_oldest_go():
    made = []

    def make(name, names):
        made.append(name)
        assert list(names)
        return SimpleNamespace(name=name)

    first = SimpleNamespace(net=SimpleNamespace(backbone=SimpleNamespace(name="first")))
    opened = app._kept(first, make)
    assert opened("first") is first
    kept = {name: opened(name) for name in "abc"}
    assert opened("a", track=iter) is kept["a"]
    assert made == ["a", "b", "c"]
    opened("d")
    assert opened("c") is kept["c"]
    assert opened("a") is not kept["a"]


def test_models_to_choose_from_have_their_weights_here(monkeypatch):
    """None is fetched because somebody chose it in the page."""
    monkeypatch.setattr("pretrained_ports.weights.hub.cached", lambda hub: None)
    monkeypatch.setattr("pretrained_ports.weights_installed", lambda name: name == "tiny")
    assert app._at_hand("resnet50") == ["tiny"]
    assert app._at_hand("tiny") == []
    monkeypatch.setattr(
        "pretrained_ports.weights.hub.cached", lambda hub: "resnet50" in hub.repository or None
    )
    assert "resnet50" in app._at_hand("tiny")
