"""`fam-jax explain --text`: a sentence in the place of a reference picture."""

import json
import re
import shutil

import huggingface_hub
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from typer.testing import CliRunner

import fam_jax
import pretrained_ports
from fam_jax import plot
from fam_jax.apps.main import app
from tests import toy_clip
from tests.close import assert_close

pytest.importorskip("tokenizers", reason="needs the text extra")
pytest.importorskip("ftfy", reason="needs the text extra")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A picture, a file with both towers of a small CLIP, and its tokenizer."""
    made = tmp_path_factory.mktemp("clip")
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(made / "dog.png")
    with pytest.MonkeyPatch.context() as patch:
        toy_clip.shrink(patch)
        towers = pretrained_ports.create_text(toy_clip.NAME), pretrained_ports.create(toy_clip.NAME)
        toy_clip.save_openai(made / "clip.safetensors", *(tower.model for tower in towers))
        toy_clip.write_tokenizer(made / "tokenizer.json")
        yield made


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def explain(folder, *args):
    """With the small CLIP's files; options given again override them."""
    options = {
        "--model": toy_clip.NAME,
        "--weights": folder / "clip.safetensors",
        "--tokenizer": folder / "tokenizer.json",
        "-o": folder / "out",
    }
    given = [part for name, value in options.items() if name not in args for part in (name, value)]
    arguments = ["explain", folder / "dog.png", *args, *given]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_sentence_gives_an_overlay_a_figure_maps_and_a_manifest(folder):
    result = explain(folder, "--text", "a dog on the beach")
    assert result.exit_code == 0, result.output
    out = folder / "out"
    names = {"query.png", "text.png", "maps.npz", "manifest.json"}
    assert {file.name for file in out.iterdir()} == names
    assert all(str(out / name) in result.output for name in names)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["texts"] == ["a dog on the beach"]
    assert manifest["references"] == manifest["background"] == manifest["background_texts"] == []
    assert len(manifest["tokenizer"]["sha256"]) == len(manifest["text_weights"]["sha256"]) == 64
    assert set(manifest["files"]) == names

    backbone = pretrained_ports.load(toy_clip.NAME, folder / "clip.safetensors")
    text = pretrained_ports.load_text(
        toy_clip.NAME, folder / "clip.safetensors", folder / "tokenizer.json"
    )
    (image,) = backbone.model(
        jnp.asarray(backbone.preprocess(Image.open(folder / "dog.png")))[None]
    )
    (sentence,) = text(["a dog on the beach"])
    cosine = image @ sentence / np.linalg.norm(image) / np.linalg.norm(sentence)
    assert manifest["scores"] == pytest.approx([float(cosine)], abs=1e-5)
    assert f"cosine {manifest['scores'][0]:.4f}" in result.output
    again = folder / "again"
    assert CliRunner().invoke(app, ["redraw", str(out), "-o", str(again)]).exit_code == 0
    for name in ("query.png", "text.png"):
        with Image.open(out / name) as old, Image.open(again / name) as new:
            np.testing.assert_array_equal(old, new)
    with np.load(out / "maps.npz") as maps:
        assert maps["query_maps"].shape == (1, 7, 7)
        assert np.ptp(maps["query_maps"]) > 0
        assert maps["valid"].all()


def test_every_word_has_its_share_in_the_manifest_the_maps_and_the_terminal(folder):
    """And all of them with what is told apart are the score; the maps are `explain_pairs`' own."""
    texts = ["a Dog on the beach", "word, cat"]
    result = explain(folder, *(x for text in texts for x in ("--text", text)))
    assert result.exit_code == 0, result.output
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    told = manifest["words"]
    given = [[word["word"] for word in of["words"]] for of in told]
    assert given == [["a", "dog", "on", "the", "beach"], ["word", ",", "cat"]]
    assert (manifest["words_layer"], manifest["words_gates"]) == ("token_embedding", "frozen")
    assert manifest["words_method"] == "decomposition"
    for of, score in zip(told, manifest["scores"], strict=True):
        assert of["apart"].keys() == {"start", "end", "padding", "rest"}
        assert of["apart"]["padding"] == 0
        parts = [word["share"] for word in of["words"]] + list(of["apart"].values())
        assert of["score"] == pytest.approx(score, abs=1e-6)
        assert sum(parts) == pytest.approx(score, abs=1e-6 * np.abs(parts).sum())
    first = told[0]["words"][1]
    assert f"a {told[0]['words'][0]['share']:+.4f}, dog {first['share']:+.4f}, on" in result.output
    assert '"," ' in result.output
    assert result.output.count("words: ") == 2

    backbone = pretrained_ports.load(toy_clip.NAME, folder / "clip.safetensors")
    text = pretrained_ports.load_text(
        toy_clip.NAME, folder / "clip.safetensors", folder / "tokenizer.json"
    )
    encoders = fam_jax.capture(backbone), fam_jax.capture(text)
    picture = [Image.open(folder / "dog.png")] * 2
    out = fam_jax.explain_pairs(encoders, picture, texts, fam_jax.decomposition())
    with np.load(folder / "out" / "maps.npz") as maps:
        assert_close(maps["token_shares"], out.reference_maps)
        np.testing.assert_array_equal(maps["tokens"], text.tokenize(texts))
        np.testing.assert_array_equal(maps["token_words"][0][:8], [-1, 0, 1, 2, 3, 4, -2, -3])
        dog = maps["token_shares"][0][maps["token_words"][0] == 1].sum()
    assert first["share"] == pytest.approx(dog, rel=1e-6)


def test_words_are_drawn_under_the_picture_and_again(folder, monkeypatch):
    drawn, sentence = [], plot.sentence

    def noted(*args, **options):
        drawn.append(options)
        return sentence(*args, **options)

    monkeypatch.setattr(plot, "sentence", noted)
    texts = "--text", "a dog", "--text", "the beach"
    assert explain(folder, *texts, "--background-text", "cats", "--gates", "free").exit_code == 0
    out, again = folder / "out", folder / "again"
    told = json.loads((out / "manifest.json").read_text())["words"]
    assert [k["apart"]["all: cosine"] for k in drawn] == [of["score"] for of in told]
    assert all("padding" not in k["apart"] for k in drawn), "it is 0"
    assert CliRunner().invoke(app, ["redraw", str(out), "-o", str(again)]).exit_code == 0
    for name in ("text-1.png", "text-2.png"):
        with Image.open(out / name) as old, Image.open(again / name) as new:
            np.testing.assert_array_equal(old, new)
    arguments = ["redraw", str(out), "-o", str(again), "--overwrite", "--scale", "shared"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    most = max(abs(word["share"]) for of in told for word in of["words"])
    assert [k["limits"] for k in drawn[-2:]] == [(-most, most)] * 2


def test_a_folder_without_words_or_with_others_is_told_apart(folder):
    """One of before there were words is drawn again; one that lacks a sentence's is refused."""
    assert explain(folder, "--text", "a dog").exit_code == 0
    manifest = folder / "out" / "manifest.json"
    about = json.loads(manifest.read_text())
    redraw = ["redraw", str(folder / "out"), "-o", str(folder / "again"), "--overwrite"]
    for words, code in ((None, 0), ([], 2), ([{"score": 1}], 2)):
        kept = {name: value for name, value in about.items() if name != "words"}
        manifest.write_text(json.dumps(kept if words is None else {**kept, "words": words}))
        result = CliRunner().invoke(app, redraw)
        assert result.exit_code == code, result.output
        assert result.output.count("\n") == 1 or code == 0, result.output


@pytest.mark.filterwarnings("default::pretrained_ports.text.SentenceWarning")
def test_several_sentences_with_letters_that_no_font_has(folder):
    """Dollars are no formula, and what is longer than the tower's context or the title is cut."""
    texts = ["costs $5, not $_6", "\u65e5\u672c \U0001f436", "a dog on the beach " * 20]
    result = explain(folder, *(part for text in texts for part in ("--text", text)))
    assert result.exit_code == 0, result.output
    said = [line for line in result.output.splitlines() if "arning" in line]
    assert all(line.startswith("warning: a sentence is longer than") for line in said)
    assert [re.search(r"the last (\d+) of its (\d+) tokens", line)[0] for line in said] == [
        "the last 4 of its 14 tokens",
        "the last 90 of its 100 tokens",
    ]
    files = {file.name for file in (folder / "out").iterdir()}
    assert {f"{kind}-{i}.png" for kind in ("query", "text") for i in (1, 2, 3)} < files
    with np.load(folder / "out" / "maps.npz") as maps:
        assert len({map_.tobytes() for map_ in maps["query_maps"]}) == 3


def test_a_background_of_sentences_is_taken_off(folder):
    texts = ["a dog", "a cat", "the beach"]
    plain = explain(folder, *(part for text in texts for part in ("--text", text)))
    first, *others = (float(score) for score in re.findall(r"cosine (\S+)", plain.output))
    background = ("--background-text", "a cat", "--background-text", "the beach")
    result = explain(folder, "--text", "a dog", *background, "--method", "fam", "--overwrite")
    assert result.exit_code == 0, result.output
    (margin,) = re.findall(r"cosine margin (\S+)", result.output)
    assert float(margin) == pytest.approx(first - np.mean(others), abs=3e-4)
    with np.load(folder / "out" / "maps.npz") as maps:
        assert maps["query_maps"].min() < 0 < maps["query_maps"].max()
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert manifest["background_texts"] == ["a cat", "the beach"]


def test_a_sentence_has_the_window_it_fits_best(folder):
    texts = ["a dog", "the beach"]
    result = explain(folder, *(x for text in texts for x in ("--text", text)), "--fit", "tile")
    assert result.exit_code == 0, result.output
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    backbone = pretrained_ports.load(toy_clip.NAME, folder / "clip.safetensors")
    text = pretrained_ports.load_text(
        toy_clip.NAME, folder / "clip.safetensors", folder / "tokenizer.json"
    )
    preprocess = backbone.preprocess
    windows = preprocess.windows((120, 90))
    inputs = [preprocess(Image.open(folder / "dog.png"), window) for window in windows]
    scores = fam_jax.explain_all(fam_jax.capture(backbone), np.stack(inputs), text(texts)).scores
    assert manifest["scores"] == pytest.approx(scores.max(axis=0).tolist(), abs=1e-5)
    assert manifest["query_boxes"] == [list(windows[i]) for i in scores.argmax(axis=0)]


BAD = {
    "nothing": ([], "give a REFERENCE picture or --text"),
    "both": (["dog.png", "--text", "a dog"], "REFERENCE pictures or --text, not both"),
    "empty": (["--text", " "], "an empty sentence"),
    "pictures for sentences": (
        ["--text", "a dog", "--background", "dog.png"],
        "--text has --background-text",
    ),
    "sentences for pictures": (
        ["dog.png", "--background-text", "a cat"],
        "pictures have --background",
    ),
    "no text tower": (
        ["--text", "a dog", "--model", "resnet50"],
        "resnet50 has no text tower; these have: clip-vit-b32, ",
    ),
    "no tokenizer": (
        ["--text", "a dog", "--tokenizer", "none.json"],
        r"there is no tokenizer file .*none\.json",
    ),
    "other tokenizer": (["--text", "a dog", "--tokenizer", "dog.png"], "is not a tokenizer.json"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_use_ends_in_one_line_and_exit_code_2(case, folder):
    args, message = BAD[case]
    result = explain(folder, *(folder / arg if "." in arg else arg for arg in args))
    assert result.exit_code == 2, result.output
    assert re.search(message, result.output), result.output
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1, result.output
    assert not (folder / "out").exists()


def test_offline_and_uncached_the_error_says_which_tokenizer(folder, monkeypatch):
    def offline(repository, file):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    arguments = ["--model", toy_clip.NAME, "--weights", folder / "clip.safetensors"]
    arguments = ["explain", folder / "dog.png", "--text", "a dog", *arguments, "-o", folder / "out"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1, result.output
    assert "tokenizer.json of the Hugging Face repository openai/clip-vit-base" in result.output


def test_a_converted_file_keeps_both_towers(folder):
    """And explains as the original does, without torch."""
    ours = folder / "ours.safetensors"
    arguments = ["convert", folder / "clip.safetensors", ours, "--model", toy_clip.NAME]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert explain(folder, "--text", "a dog").exit_code == 0
    assert explain(folder, "--text", "a dog", "--weights", ours, "-o", folder / "b").exit_code == 0
    maps = [np.load(folder / name / "maps.npz")["query_maps"] for name in ("out", "b")]
    np.testing.assert_array_equal(*maps)


def test_random_weights_are_labelled_so(folder):
    result = explain(folder, "--text", "a dog", "--weights", "random")
    assert result.exit_code == 0, result.output
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert manifest["weights"] == manifest["text_weights"] == {"source": "random weights, seed 0"}
