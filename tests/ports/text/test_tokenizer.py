"""Sentences into token numbers, and words of them; files that are no tokenizer."""

import json

import numpy as np
import pytest

import fam_jax
import pretrained_ports
from pretrained_ports.models import clip_text
from pretrained_ports.text import SentenceWarning
from pretrained_ports.text import words as words_of
from pretrained_ports.text.tokenizer import Tokenizer
from tests import toy_clip
from tests.close import assert_close
from tests.toy_clip import END, SENTENCES, SHALLOW, START

NAME = toy_clip.NAME


def test_sentences_into_token_numbers(tokenizer):
    tokenize = pretrained_ports.create_text(NAME, tokenizer=tokenizer).tokenize
    rows = tokenize(["", "a Dog&amp;amp;", "  the\n CAT  ", *SENTENCES])
    assert rows.shape == (6, 12)
    assert rows[0].tolist() == [START, END, *[0] * 10]
    assert rows[1, :5].tolist() == [START, *tokenize(["a dog &"])[0, 1:4], END]
    np.testing.assert_array_equal(rows[2], tokenize(["the cat"])[0])
    assert (rows[3] == END).sum() == (rows[4] == END).sum() == 1
    assert rows[5, -1] == END, "ten tokens fill the context"
    np.testing.assert_array_equal(rows[5, :6], rows[3, :6])
    assert tokenize([]).shape == (0, 12)


def test_of_a_sentence_that_is_cut_the_rest_is_counted(tokenizer):
    """Once for each such sentence, the end token kept; of pieces of words all count."""
    text = pretrained_ports.create_text(NAME, tokenizer=tokenizer)
    long, pieces = "a dog on the beach " * 4, "word " * 9
    with pytest.warns(SentenceWarning) as told:
        rows = text.tokenize(["cats", long, pieces])
    first, second = (str(one.message) for one in told)
    assert "the last 10 of its 20 tokens were left out: 'a dog on the beach a dog" in first
    assert "the last 26 of its 36 tokens were left out" in second
    assert rows[1, -1] == rows[2, -1] == END
    np.testing.assert_array_equal(rows[1, :-1], text.tokenize([SENTENCES[2]])[0, :-1])
    for call in (text, text.tokenize, fam_jax.capture(text)):
        with pytest.warns(SentenceWarning, match="the last 10 of its 20 tokens"):
            call([long])


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


@pytest.mark.filterwarnings("ignore::pretrained_ports.text.SentenceWarning")
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
