"""CLIP's text towers give PyTorch's numbers, and the tokenizer OpenAI's token numbers."""

import jax
import numpy as np
import pytest

import pretrained_ports
from pretrained_ports.models import clip_text
from pretrained_ports.text.tokenizer import Tokenizer
from pretrained_ports.text.words import END as END_OF_TEXT

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
plain = pytest.importorskip("tests.parity.torch_clip_text")
pytestmark = pytest.mark.parity

WORDS, DEPTH = 1000, 2  # of 49408 and 12: the rest is more of the same
END = WORDS - 1


@pytest.fixture(autouse=True)
def fewer_words_and_blocks(monkeypatch):
    for size, variant in clip_text.VARIANTS.items():
        small = variant._replace(vocabulary=WORDS, depth=DEPTH)
        monkeypatch.setitem(clip_text.VARIANTS, size, small)


def sentences(length, fill):
    """A row that ends early, one that fills the context, one in between."""
    random = np.random.default_rng(0)
    ids = random.integers(0, END - 1, (3, length))
    ids[:, 0] = END - 1
    for row, end in zip(ids, (4, length - 1, length // 2), strict=True):
        row[end], row[end + 1 :] = END, fill
    return ids.astype(np.int32)


def check(
    reference, name, paths, ids, *, file, record, dialect, state=None, embed=None, batches=(3,)
):
    """As `compare.check`, for token numbers in place of images.

    Args:
        reference: The PyTorch module whose submodules are compared and whose weights are saved.
        embed: token numbers [b n] -> [b e]; `reference` unless told otherwise.
    """
    compare.randomise(reference)
    weights = reference.state_dict()
    torch.save(state(weights) if state else weights, file)
    outputs = {}
    for ours, path in paths.items():
        reference.get_submodule(path).register_forward_hook(
            lambda module, args, out, ours=ours: outputs.__setitem__(
                ours, out[0] if isinstance(out, tuple) else out
            )
        )
    for dtype in ("float64", "float32"):
        reference.to(getattr(torch, dtype))
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
            text = pretrained_ports.load_text(name, file, param_dtype=dtype)
            assert text.report.dialect == dialect
            for batch in batches:
                with torch.no_grad():
                    outputs[""] = (embed or reference)(torch.as_tensor(ids[:batch]).long())
                got = compare.ours(text.model, paths, ids[:batch])
                expected = {path: value.numpy() for path, value in outputs.items()}
                label = f"CLIP text | {dialect} | {name}"
                compare.assert_alike(got, expected, dtype, record, label)


def stages(template, end):
    """Our path -> theirs."""
    blocks = {f"blocks.{i}": template.format(i) for i in range(DEPTH)}
    return {**blocks, "ln_final": end}


def with_image_tower(weights):
    """What else lies in an OpenAI or OpenCLIP file."""
    more = {"visual.proj": torch.zeros(2, 2), "logit_scale": torch.tensor(4.6)}
    return {**weights, **more, "context_length": torch.tensor(77)}


RESBLOCKS = stages("transformer.resblocks.{}", "ln_final")


@pytest.mark.parametrize(
    ("name", "options", "prefix"),
    [
        ("clip-vit-b32", {}, ""),
        ("clip-vit-l14", {"width": 768, "heads": 12, "dim": 768}, ""),
        ("clip-vit-b32-laion2b", {"act": torch.nn.GELU}, "text."),
    ],
)
def test_the_names_of_openai(tmp_path, record_property, name, options, prefix):
    check(
        plain.TextTower(depth=DEPTH, vocabulary=WORDS, **options),
        name,
        RESBLOCKS,
        sentences(77, fill=0),
        file=tmp_path / "random.pth",
        record=record_property,
        dialect="openai-clip-text",
        state=lambda weights: with_image_tower({prefix + k: v for k, v in weights.items()}),
    )


def test_open_clips_own_tower(tmp_path, record_property):
    """And one sentence alone."""
    compare.import_torchvision()
    transformer = pytest.importorskip("open_clip.transformer")
    check(
        transformer.TextTransformer(
            vocab_size=WORDS, layers=DEPTH, output_dim=512, act_layer=transformer.QuickGELU
        ),
        "clip-vit-b16",
        RESBLOCKS,
        sentences(77, fill=0),
        file=tmp_path / "random.pth",
        record=record_property,
        dialect="openai-clip-text",
        batches=(1, 3),
    )


def test_transformers(tmp_path, record_property):
    """Whose padding is the end token."""
    compare.import_torchvision()
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=WORDS, num_hidden_layers=DEPTH, bos_token_id=END - 1, eos_token_id=END
    )
    model = transformers.CLIPTextModelWithProjection(config)
    check(
        model,
        "clip-vit-b32",
        stages("text_model.encoder.layers.{}", "text_model.final_layer_norm"),
        sentences(20, fill=END),
        file=tmp_path / "random.pth",
        record=record_property,
        dialect="hf-clip-text",
        embed=lambda ids: model(ids).text_embeds,
    )


@pytest.fixture(scope="module")
def theirs():
    """OpenCLIP's tokenizer, which is OpenAI's, with the real vocabulary."""
    pytest.importorskip("ftfy")
    compare.import_torchvision()
    return pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    """Our tokenizer, from the file that transformers writes for that vocabulary."""
    transformers = pytest.importorskip("transformers")
    words = {word: number for word, number in theirs.encoder.items() if number < 49406}
    vocabulary = {**words, "<|startoftext|>": 49406, "<|endoftext|>": 49407}
    merges = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.get)
    folder = tmp_path_factory.mktemp("tokenizer")
    transformers.CLIPTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return Tokenizer(lambda: folder / "tokenizer.json")


SENTENCES = [
    "a dog on a beach",
    "",
    "  A DOG\ton\n a  Beach. ",
    "a photo of a {}.",
    "x" * 200,
    "word " * 100,
    "word, " * 60 + "end",
    "don't they'll we've I'm he'd IT'S",
    "price: $5.99 & 3/4",
    "1234567890 3.14",
    "?!... --- !!",
    "a_b-c/d@e#f a</w>b <start> http://x.org/?a=b&c=d",
    "&amp; &lt;b&gt; &amp;amp; &nbsp; <html> a dog",
    "sÃ¼ß schÃ¶n",
    "naïve café — déjà vu",
    "“It’s” ‘quoted’",  # noqa: RUF001
    "e\u0301 combining",
    "ﬁne ﬂow",
    "ＦＵＬＬ width",  # noqa: RUF001
    "½ ² Ⅳ",
    "Æsop Œuvre",
    "İstanbul STRASSE ẞ ǅ",
    "ΟΔΥΣΣΕΥΣ Σίσυφος",
    "русский текст",
    "日本語の写真",
    "ไทย हिन्दी",
    "עברית العربية",
    "a 🐶 and 👩\u200d👩\u200d👧",
    "🇩🇪",
    "\u200bzero\ufeff width",
    "tab\xa0nbsp",
    "\x07bell",
]


@pytest.mark.filterwarnings("ignore::pretrained_ports.text.SentenceWarning")
@pytest.mark.parametrize("sentence", SENTENCES, ids=ascii)
def test_token_numbers(ours, theirs, sentence):
    np.testing.assert_array_equal(ours([sentence]), theirs([sentence]).numpy())


@pytest.mark.parametrize("sentence", SENTENCES, ids=ascii)
def test_words_are_the_sentence_as_it_is_read(ours, sentence):
    """All its letters in their order, up to where the context ends."""
    clean, _ = ours._read
    words, owners = ours.words(sentence)
    read, whole = ("".join(text.split()) for text in ("".join(words), clean(sentence)))
    assert whole.startswith(read)
    assert len(read) == len(whole) or owners[-1] == END_OF_TEXT
