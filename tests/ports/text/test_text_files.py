"""Text towers in files of their own names, and the rows that have one."""

import huggingface_hub
import numpy as np
import pytest
from flax import nnx
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.catalog.clip_text import TEXT_DIALECTS, TOWERS
from pretrained_ports.catalog.vit import ENTRIES as ROWS
from pretrained_ports.checkpoints import write
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.models import clip_text
from pretrained_ports.models.state import parameters
from pretrained_ports.models.vit import VisionTransformer
from tests import toy_clip
from tests.toy_clip import SHALLOW

NAME = toy_clip.NAME


@pytest.mark.parametrize("own_module", [False, True])
def test_openai_names_beside_an_image_tower(model, own_module, openai_file):
    if own_module:  # OpenCLIP's other form
        from safetensors.numpy import load_file

        own = ("visual", "logit")
        arrays = {
            k if k.startswith(own) else "text." + k: v for k, v in load_file(openai_file).items()
        }
        save_file(arrays, openai_file)
    text = pretrained_ports.load_text(NAME, openai_file)
    assert text.report.dialect == "openai-clip-text"
    assert text.report.unwrapped == (("text.",) if own_module else ())
    assert text.report.ignored["visual.proj"] == "the image tower"
    given = parameters(model)
    for path, value in parameters(text.model).items():
        np.testing.assert_array_equal(value, given.pop(path), err_msg=path)
    assert not given


def test_a_file_of_ours_holds_the_text_tower_beside_the_image_tower(tmp_path, model):
    image = pretrained_ports.create("conv4").model
    file = write(tmp_path / "both.safetensors", image, {"architecture": NAME}, text=model)
    text = pretrained_ports.load_text(NAME, file)
    assert (text.report.dialect, text.source) == ("native-text", str(file))
    assert text.report.ignored["block1.conv.bias"] == "the image tower"
    report = pretrained_ports.load("conv4", file).report
    assert report.ignored["text.ln_final.bias"] == "the text tower"
    loaded, given = parameters(text.model), parameters(model)
    assert loaded.keys() == given.keys()
    for path, value in given.items():
        np.testing.assert_array_equal(loaded[path], value)


def test_a_file_without_the_text_tower_is_refused(tmp_path):
    save_file({"visual.proj": np.zeros((2, 2), "f")}, tmp_path / "image.safetensors")
    with pytest.raises(pretrained_ports.CheckpointError, match="does not fit the text tower of"):
        pretrained_ports.load_text(NAME, tmp_path / "image.safetensors")


def test_models_without_a_text_tower_say_which_have_one():
    with pytest.raises(ValueError, match="resnet50 has no text tower; these have: clip-vit-b32, "):
        pretrained_ports.load_text("resnet50")
    with pytest.raises(ValueError, match=r"no model 'clip-vit-b23'; .* clip-vit-b32"):
        pretrained_ports.create_text("clip-vit-b23")
    with pytest.raises(
        ValueError, match="there are: auto, openai-clip-text, hf-clip-text, native-text"
    ):
        pretrained_ports.load_text(NAME, "a.safetensors", dialect="clip")
    with pytest.raises(ValueError, match="jax_enable_x64"):
        pretrained_ports.load_text(NAME, param_dtype="float64")


@pytest.mark.parametrize("name", ["clip-vit-b32", "clip-vit-l14", "clip-vit-b16-datacomp"])
def test_rows_agree_with_those_of_the_image_towers(toy, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_text, "VARIANTS", SHALLOW)
        text = nnx.eval_shape(lambda: TOWERS[name].build(rngs=nnx.Rngs(0)))
    design = ROWS[name].build.args[0]._replace(depth=1)
    image = nnx.eval_shape(lambda: VisionTransformer(design, rngs=nnx.Rngs(0)))
    assert image.head.out_features == text.text_projection.out_features
    assert image.blocks[0].mlp.act is text.blocks[0].mlp.act


def test_every_row_has_an_image_tower_and_known_dialects():
    assert set(TOWERS) <= set(ENTRIES)
    assert set(TEXT_DIALECTS) <= set(DIALECTS)


def test_offline_the_errors_say_what_to_fetch(monkeypatch, openai_file):
    def offline(repository, file):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(pretrained_ports.CheckpointError) as weights:
        pretrained_ports.load_text(NAME)
    assert "open_clip_model.safetensors of the Hugging Face repository timm/" in str(weights.value)
    assert "weights=FILE" in str(weights.value)
    pytest.importorskip("tokenizers", reason="needs the text extra")
    with pytest.raises(pretrained_ports.CheckpointError) as tokens:
        pretrained_ports.load_text(NAME, openai_file)(["a dog"])
    assert "download tokenizer.json of the Hugging Face repository openai/clip-vit-base" in str(
        tokens.value
    )
    assert "tokenizer=FILE" in str(tokens.value)
