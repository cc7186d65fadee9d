"""Text towers of CLIP: shapes, names, types, and sentences into token numbers."""

import json
import re

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import save_file

import fam_jax
import pretrained_ports
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.catalog.clip_text import TEXT_DIALECTS, TOWERS
from pretrained_ports.catalog.vit import ENTRIES as ROWS
from pretrained_ports.checkpoints import write
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.models import clip_text
from pretrained_ports.models.state import parameters
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.text import words as words_of
from pretrained_ports.text.tokenizer import Tokenizer
from tests import toy_clip
from tests.close import assert_close
from tests.ports import network
from tests.programs import on_devices

NAME = toy_clip.NAME
END = toy_clip.VOCABULARY - 1
START = END - 1
# As published, with one block; read before the base tower is made small.
SHALLOW = {name: row._replace(depth=1) for name, row in clip_text.VARIANTS.items()}
SENTENCES = ["a dog on the beach", "cats", "a dog on the beach a dog on the beach a dog"]


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


def sentences():
    """A row that ends early, one that fills the context, one in between."""
    rows = np.random.default_rng(0).integers(0, START, (3, 12), np.int32)
    for row, end in zip(rows, (2, 11, 6), strict=True):
        row[0], row[end], row[end + 1 :] = START, END, 0
    return rows


IDS = sentences()


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


@pytest.mark.parametrize(
    ("variant", "millions", "dim"),
    [
        (clip_text.VARIANTS["base"], 63.43, 512),
        (clip_text.VARIANTS["large"], 123.65, 768),
    ],
    ids=["base", "large"],
)
def test_the_published_sizes(monkeypatch, variant, millions, dim):
    """Of the towers in OpenAI's files: all parameters less those of the image tower.

    Twelve blocks are one block more than eleven.
    """
    counts = []
    for depth in (1, 2):
        monkeypatch.setitem(clip_text.VARIANTS, "base", variant._replace(depth=depth))
        model = nnx.eval_shape(lambda: clip_text.TextTransformer("base", rngs=nnx.Rngs(0)))
        counts.append(sum(value.size for value in parameters(model).values()))
    count = counts[0] + (variant.depth - 1) * (counts[1] - counts[0])
    assert count / 1e6 == pytest.approx(millions, abs=0.01)
    out = nnx.eval_shape(lambda model: model(jnp.zeros((2, 77), "int32")), model)
    assert out.shape == (2, dim)


def test_only_what_stands_before_the_end_counts(x64, double):
    """Zeros or end tokens behind it, or nothing: OpenAI's, Hugging Face's and no padding."""
    expected = network.embed(double, IDS)
    padded, changed = IDS.copy(), IDS.copy()
    for row in range(3):
        end = IDS[row].argmax()
        padded[row, end + 1 :] = END if row else 7
        changed[row, end - 1] += 1
    assert_close(network.embed(double, padded), expected, rtol=1e-12)
    assert_close(network.embed(double, IDS[:1, :3])[0], expected[0], rtol=1e-12)
    others = network.embed(double, changed)
    assert (np.abs(others - expected).max(1) > 1e-4).all(), "but the sentence does"


def test_the_order_of_words_counts(model):
    pair = np.array([[START, 5, 6, END], [START, 6, 5, END]], np.int32)
    first, second = network.embed(model, pair)
    assert np.abs(first - second).max() > 1e-4


def test_jit_and_vmap_agree_with_the_plain_call(x64, double):
    plain = double(IDS)
    assert_close(network.embed(double, IDS), plain, rtol=1e-12)
    assert_close(network.one_by_one(double, IDS), plain, rtol=1e-12)


def test_gradients_reach_every_parameter(model):
    for path, leaf in network.gradients(model, IDS).items():
        assert np.isfinite(leaf).all(), path
        assert leaf.any(), path


def test_computes_in_the_type_of_its_parameters(model, double):
    expected = network.embed(model, IDS)
    half = pretrained_ports.create_text(NAME, param_dtype="bfloat16").model
    given = network.embed(half, IDS)
    assert given.dtype == "bfloat16"
    assert_close(given, expected, rtol=0.05)
    with jax.enable_x64(True):
        given = network.embed(double, IDS)
    assert given.dtype == "float64"
    assert_close(given, expected)


def test_sentences_on_eight_devices_need_no_communication(x64, double):
    """Embedded, and explained word by word."""
    graph, state = nnx.split(double)
    encode = fam_jax.capture(double, at="token_embedding", tokens=(0, None), gates="frozen")
    ids, pictures = np.tile(IDS, (3, 1))[:8], np.random.default_rng(1).normal(size=(8, 8))

    def both(state, encode, ids, pictures):
        out = fam_jax.explain(encode, ids, pictures, fam_jax.decomposition())
        return nnx.merge(graph, state)(ids), out.maps

    expected = jax.jit(both)(state, encode, ids, pictures)
    given = on_devices(both, ids, pictures, shared=(state, encode))
    for one, other in zip(given, expected, strict=True):
        assert one.sharding.spec[0] == "batch"
        assert_close(one, other, rtol=1e-10)


def test_bad_token_numbers(model, unchecked):
    for shape in ([12], [1, 0], [1, 13]):
        with pytest.raises(ValueError, match=rf"n from 1 to 12, got shape \[{str(shape)[1:-1]}\]"):
            model(jnp.zeros(shape, "int32"))
    with pytest.raises(ValueError, match="whole numbers, got float32"):
        model(jnp.zeros((1, 12)))
    beyond = network.embed(model, np.array([[START, END + 1]], np.int32))
    assert np.isnan(beyond).all(), "not another word's embedding"


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


CUT = {
    "a Dog  on the BEACH": ("a", "dog", "on", "the", "beach"),
    "(a dog)": ("(", "a", "dog", ")"),
    "7 cats, &amp; a cat": ("7", "cats", ",", "&", "a", "cat"),
    "caf\u00e9": ("caf\u00e9",),
    "cats " * 9: ("cats",) * 9,
    "word " * 9: ("word", "word", "wo"),  # of the third the context has two pieces
    "\u65e5\u672c \u05e9\u05dc": ("\u65e5\u672c", "\u05e9\u05dc"),
    "": (),
}


@pytest.mark.parametrize("sentence", CUT, ids=ascii)
def test_every_token_is_of_a_word_or_is_told_apart(tokenizer, sentence):
    """Byte-pair pieces are joined; start, end and what fills the row are of no word."""
    tokenize = pretrained_ports.create_text(NAME, tokenizer=tokenizer).tokenize
    words, ids = tokenize.words(sentence), tokenize([sentence])[0]
    assert words.words == CUT[sentence]
    end = ids.argmax()
    assert words.owners[0] == words_of.START
    assert words.owners[end] == words_of.END
    assert (words.owners[end + 1 :] == words_of.PADDING).all()
    inside = words.owners[1:end]
    assert (np.diff(inside, prepend=0) >= 0).all()
    np.testing.assert_array_equal(np.unique(inside), np.arange(len(words.words)))

    values = np.random.default_rng(0).normal(size=12)
    sums, apart = words.sums(values)
    assert apart.keys() == {"start", "end", "padding"}
    assert_close(sums.sum() + sum(apart.values()), values.sum(), values, rtol=1e-12)
    assert apart["start"] == values[0]
    by_hand = [values[words.owners == i].sum() for i in range(len(words.words))]
    np.testing.assert_allclose(sums, by_hand, rtol=1e-12)


def test_sentences_are_what_the_captured_tower_takes(tokenizer, unchecked):
    """With the layer, tokens and gates that it brings; numbers of tokens will do, too."""
    text = pretrained_ports.create_text(NAME, tokenizer=tokenizer)
    encode = fam_jax.capture(text)
    assert (encode.at, encode.gates) == (text.layer, "frozen")
    enc = encode(SENTENCES)
    assert enc.activations.shape == (3, 12, 16)
    assert_close(enc.embeddings, text(SENTENCES))
    np.testing.assert_array_equal(encode(text.tokenize(SENTENCES)).embeddings, enc.embeddings)
    with pytest.raises(TypeError, match="sentence: expected a string, got int"):
        encode([3])


@pytest.mark.numerics
def test_shares_of_tokens_and_the_rest_are_the_score(x64, double):
    """At what each token brings in, the rest is the part of positions and biases: none without."""
    pictures = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8)))

    def maps(model):
        encode = fam_jax.capture(model, at="token_embedding", gates="frozen")
        return fam_jax.explain(encode, IDS, pictures, fam_jax.decomposition())

    out = maps(double)
    assert (np.abs(out.scores - out.maps.sum(1)) > 1e-3).all()
    for row, ids in zip(out.maps, IDS, strict=True):
        assert not row[ids.argmax() + 1 :].any(), "no token sees those after it"
        assert (row[: ids.argmax() + 1] != 0).all()
    graph, state = nnx.split(double)
    unbiased = jax.tree.map_with_path(
        lambda path, x: 0 * x if re.search("bias|positional", jax.tree_util.keystr(path)) else x,
        state,
    )
    out = maps(nnx.merge(graph, unbiased))
    assert_close(out.maps.sum(1), out.scores, np.abs(out.maps).sum(1), rtol=1e-10)


def test_sentences_into_embeddings(tokenizer):
    text = pretrained_ports.create_text(NAME, seed=1, tokenizer=tokenizer)
    z = text(SENTENCES)
    assert z.shape == (3, text.embedding_dim) == (3, 8)
    assert_close(z, network.embed(text.model, text.tokenize(SENTENCES)))
    with pytest.raises(TypeError, match="a list of strings, got 'a dog'"):
        text.tokenize("a dog")


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


class Panic(BaseException):
    """As those of Rust: no Exception."""


def test_a_damaged_tokenizer_is_one_line(tmp_path, tokenizer, monkeypatch):
    """Numbers beyond the vocabulary, and a parser that panics, when it reads or at a sentence."""
    good = json.loads(tokenizer.read_text())
    damaged = tmp_path / "damaged.json"
    word = next(iter(good["model"]["vocab"]))
    good["model"]["vocab"][word] = 10**6
    damaged.write_text(json.dumps(good))
    with pytest.raises(ValueError, match=r"damaged\.json is not"):
        Tokenizer(lambda: damaged, len(good["model"]["vocab"]))(["a dog"])
    import tokenizers

    class Parser:
        def __getattr__(self, name):
            raise Panic("index out of bounds: the len is 3\nbut the index is 7")

    monkeypatch.setattr(tokenizers.Tokenizer, "from_file", lambda file: Parser())
    with pytest.raises(ValueError, match="or is damaged: index out of bounds: the len is 3 but"):
        Tokenizer(lambda: tokenizer)(["a dog"])


def test_other_files_are_no_tokenizer(tmp_path, tokenizer, monkeypatch):
    with pytest.raises(ValueError, match=r"there is no tokenizer file none\.json"):
        pretrained_ports.create_text(NAME, tokenizer="none.json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"other.json is not a tokenizer.json"):
        pretrained_ports.create_text(NAME, tokenizer=tmp_path / "other.json")
    monkeypatch.setattr(clip_text, "VARIANTS", SHALLOW)
    with pytest.raises(ValueError, match=r"527 tokens, .* expected 49408 tokens and"):
        pretrained_ports.create_text(NAME, tokenizer=tokenizer)
