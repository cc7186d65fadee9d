"""Text towers of CLIP: shapes, names, types, and sentences into token numbers."""

from functools import partial

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports import clip_text
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.catalog.clip_text import TEXT_DIALECTS, TOWERS
from pretrained_ports.convert import parameters, write
from pretrained_ports.dialects import DIALECTS
from pretrained_ports.zoo import abstract
from tests import toy_clip

NAME = toy_clip.NAME
END = toy_clip.VOCABULARY - 1
START = END - 1
SENTENCES = ["a dog on the beach", "cats", "a dog on the beach a dog on the beach a dog"]


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """The base tower in small."""
    toy_clip.shrink(monkeypatch)


@pytest.fixture
def tokenizer(tmp_path):
    pytest.importorskip("tokenizers", reason="needs the text extra")
    pytest.importorskip("ftfy", reason="needs the text extra")
    return toy_clip.write_tokenizer(tmp_path / "tokenizer.json")


@pytest.fixture
def ids():
    """A row that ends early, one that fills the context, one in between."""
    rows = np.random.default_rng(0).integers(0, START, (3, 12), np.int32)
    for row, end in zip(rows, (2, 11, 6), strict=True):
        row[0], row[end], row[end + 1 :] = START, END, 0
    return rows


@pytest.fixture
def model():
    return pretrained_ports.create_text(NAME).model


@pytest.fixture
def embed(model):
    return jitted(model)


@pytest.fixture
def openai_file(tmp_path, model):
    """The model's weights as OpenAI and OpenCLIP name them, beside an image tower."""
    image = pretrained_ports.create(NAME).model
    return toy_clip.save_openai(tmp_path / "clip.safetensors", model, image)


def pure(model):
    graph, state = nnx.split(model)
    return state, lambda state, ids: nnx.merge(graph, state)(ids)


def jitted(model):
    state, embed = pure(model)
    return partial(jax.jit(embed), state)


@pytest.mark.parametrize(
    ("size", "millions", "dim"), [("base", 63.43, 512), ("large", 123.65, 768)]
)
def test_the_published_sizes(monkeypatch, size, millions, dim):
    """Of the towers in OpenAI's files: all parameters less those of the image tower."""
    monkeypatch.undo()
    model = nnx.eval_shape(lambda: clip_text.TextTransformer(size, rngs=nnx.Rngs(0)))
    count = sum(value.size for value in parameters(model).values())
    assert count / 1e6 == pytest.approx(millions, abs=0.01)
    out = nnx.eval_shape(lambda model: model(jnp.zeros((2, 77), "int32")), model)
    assert out.shape == (2, dim)


def test_only_what_stands_before_the_end_counts(embed, ids):
    """Zeros or end tokens behind it, or nothing: OpenAI's, Hugging Face's and no padding."""
    expected = embed(ids)
    padded, changed = ids.copy(), ids.copy()
    for row in range(3):
        end = ids[row].argmax()
        padded[row, end + 1 :] = END if row else 7
        changed[row, end - 1] += 1
    np.testing.assert_allclose(embed(padded), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(embed(ids[:1, :3])[0], expected[0], rtol=1e-5, atol=1e-6)
    assert (jnp.abs(embed(changed) - expected).max(1) > 1e-4).all(), "but the sentence does"


def test_the_order_of_words_counts(embed):
    first, second = embed(np.array([[START, 5, 6, END], [START, 6, 5, END]], np.int32))
    assert jnp.abs(first - second).max() > 1e-4


def test_jit_and_vmap_agree_with_the_plain_call(model, ids):
    state, embed = pure(model)
    expected = model(ids)
    np.testing.assert_allclose(jax.jit(embed)(state, ids), expected, rtol=1e-5, atol=1e-6)
    one_by_one = jax.jit(jax.vmap(lambda row: embed(state, row[None])[0]))(ids)
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_parameter(model, ids):
    state, embed = pure(model)
    gradients = jax.jit(jax.grad(lambda state: (embed(state, ids) ** 2).sum()))(state)
    for leaf in jax.tree.leaves(gradients):
        assert jnp.isfinite(leaf).all()
        assert jnp.any(leaf != 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_computes_in_the_type_of_its_parameters(embed, ids, dtype):
    expected = embed(ids)
    with jax.enable_x64(dtype == "float64"):
        given = jitted(pretrained_ports.create_text(NAME, param_dtype=dtype).model)(ids)
        assert given.dtype == dtype
        error = jnp.abs(given.astype("float32") - expected).max()
        assert error <= (0.05 if dtype == "bfloat16" else 1e-5) * jnp.abs(expected).max()


def test_bad_token_numbers(model, embed, unchecked):
    for shape in ([12], [1, 0], [1, 13]):
        with pytest.raises(ValueError, match=rf"n from 1 to 12, got shape \[{str(shape)[1:-1]}\]"):
            model(jnp.zeros(shape, "int32"))
    with pytest.raises(ValueError, match="whole numbers, got float32"):
        model(jnp.zeros((1, 12)))
    assert jnp.isnan(embed(jnp.array([[START, END + 1]]))).all(), "not another word's embedding"


def test_sentences_into_token_numbers(tokenizer):
    tokenize = pretrained_ports.create_text(NAME, tokenizer=tokenizer).tokenize
    rows = tokenize(["", "a Dog&amp;amp;", "  the\n CAT  ", *SENTENCES])
    assert rows.shape == (6, 12)
    assert rows[0].tolist() == [START, END, *[0] * 10]
    assert rows[1, :5].tolist() == [START, *tokenize(["a dog &"])[0, 1:4], END]
    np.testing.assert_array_equal(rows[2], tokenize(["the cat"])[0])
    assert (rows[3] == END).sum() == (rows[4] == END).sum() == 1
    assert rows[5, -1] == END, "the end is kept where a sentence is cut"
    np.testing.assert_array_equal(rows[5, :6], rows[3, :6])
    assert tokenize([]).shape == (0, 12)


def test_curly_quotes_and_mojibake_are_mended(tokenizer):
    """As the captions were that CLIP learned from."""
    tokenize = pretrained_ports.create_text(NAME, tokenizer=tokenizer).tokenize
    first, second, third, fourth = tokenize(["\u201ccat\u2019s\u201d", '"cat\'s"', "cÃ©", "cé"])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(third, fourth)


def test_sentences_into_embeddings(tokenizer):
    text = pretrained_ports.create_text(NAME, seed=1, tokenizer=tokenizer)
    z = text(SENTENCES)
    assert z.shape == (3, text.embedding_dim) == (3, 8)
    np.testing.assert_allclose(z, text.model(text.tokenize(SENTENCES)), rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="a list of strings, got 'a dog'"):
        text.tokenize("a dog")


@pytest.mark.parametrize("own_module", [False, True])
def test_openai_names_beside_an_image_tower(embed, ids, own_module, openai_file):
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
    np.testing.assert_array_equal(jitted(text.model)(ids), embed(ids))


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
def test_rows_agree_with_those_of_the_image_towers(monkeypatch, name):
    monkeypatch.undo()
    text = nnx.eval_shape(lambda: TOWERS[name].build(rngs=nnx.Rngs(0)))
    image = abstract(ENTRIES[name])
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


def test_other_files_are_no_tokenizer(tmp_path, tokenizer, monkeypatch):
    with pytest.raises(ValueError, match=r"there is no tokenizer file none\.json"):
        pretrained_ports.create_text(NAME, tokenizer="none.json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"other.json is not a tokenizer.json"):
        pretrained_ports.create_text(NAME, tokenizer=tmp_path / "other.json")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"527 tokens, .* expected 49408 tokens and"):
        pretrained_ports.create_text(NAME, tokenizer=tokenizer)
