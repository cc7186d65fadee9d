"""The small text tower, its weights in a file, its tokenizer."""

import jax
import pytest

import pretrained_ports
from tests import toy_clip

NAME = toy_clip.NAME


@pytest.fixture(scope="module", autouse=True)
def toy():
    """The base tower in small."""
    with pytest.MonkeyPatch.context() as patch:
        toy_clip.shrink(patch)
        yield patch


@pytest.fixture
def tokenizer(tmp_path):
    pytest.importorskip("tokenizers", reason="needs the text extra")
    pytest.importorskip("ftfy", reason="needs the text extra")
    return toy_clip.write_tokenizer(tmp_path / "tokenizer.json")


@pytest.fixture(scope="module")
def model(toy):
    return pretrained_ports.create_text(NAME).model


@pytest.fixture(scope="module")
def double(toy):
    """The model in float64."""
    with jax.enable_x64(True):
        return pretrained_ports.create_text(NAME, param_dtype="float64").model


@pytest.fixture
def openai_file(tmp_path, model):
    """The model's weights as OpenAI and OpenCLIP name them, beside an image tower."""
    image = pretrained_ports.create(NAME).model
    return toy_clip.save_openai(tmp_path / "clip.safetensors", model, image)
