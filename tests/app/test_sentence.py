"""A picture and a sentence: as the command explains them."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tokenizers", reason="needs the text extra")
pytest.importorskip("ftfy", reason="needs the text extra")

import pretrained_ports
from fam_jax.apps.live import answers, html
from fam_jax.apps.live import opened as opening
from fam_jax.apps.live.opened import Background
from fam_jax.apps.network import open_network
from tests import toy_clip
from tests.close import assert_close
from tests.commands import run

TEXT = "a dog on the beach"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A small CLIP that is opened, and the options of a command that opens it."""
    made = tmp_path_factory.mktemp("clip")
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(made / "dog.png")
    weights, tokenizer = made / "clip.safetensors", made / "tokenizer.json"
    with pytest.MonkeyPatch.context() as patch:
        toy_clip.shrink(patch)
        towers = pretrained_ports.create_text(toy_clip.NAME), pretrained_ports.create(toy_clip.NAME)
        toy_clip.save_openai(weights, *(tower.model for tower in towers))
        toy_clip.write_tokenizer(tokenizer)
        tower = pretrained_ports.load_text(toy_clip.NAME, weights, tokenizer)
        net = open_network(toy_clip.NAME, str(weights))
        line = ("--model", toy_clip.NAME, "--weights", weights, "--tokenizer", tokenizer)
        yield opening.open_(net, ("fam", "le-grad", "contrastive"), tower=tower), made, line


@pytest.mark.parametrize(
    "others", [pytest.param((), marks=pytest.mark.slow), ("a cat", "cats on the beach")]
)
def test_a_sentence_is_that_of_the_command_with_its_words(others, clip, tmp_path):
    opened, made, line = clip
    more = [part for other in others for part in ("--background-text", other)]
    out = tmp_path / "out"
    result = run("explain", made / "dog.png", "--text", TEXT, *line, *more, "-o", out)
    assert result.exit_code == 0, result.output
    picture, background = opened.read(made / "dog.png"), opened.background((), others)
    answer = answers.of_sentence(opened, opened.layers[0], "", picture, TEXT, background)
    with np.load(out / "maps.npz") as theirs:
        assert set(answer.arrays) == set(theirs)
        for name in theirs:
            assert_close(answer.arrays[name], theirs[name])
    theirs = json.loads((out / "manifest.json").read_text())
    for name in ("texts", "background_texts", "method", "words_method", "layer", "figures"):
        assert answer.about[name] == theirs[name], name
    shown = html.pair(answer)
    assert "words: a +" in shown or "words: a -" in shown
    assert "data-side" not in shown  # a sentence has no places


def test_another_network_knows_no_sentences(opened, picture):
    with pytest.raises(ValueError, match="tiny knows no sentences: take a model of CLIP"):
        answers.of_sentence(opened, opened.layers[0], "", picture("a"), TEXT, Background())
    with pytest.raises(ValueError, match="tiny knows no sentences"):
        opened.background((), [TEXT])
