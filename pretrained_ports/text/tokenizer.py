"""Sentences into the token numbers that CLIP was trained on."""

import html
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from pretrained_ports.checkpoints.errors import one_line
from pretrained_ports.text.words import END, PADDING, START, Words


class SentenceWarning(UserWarning):
    """A sentence is read, but not to its end."""


class Tokenizer:
    """CLIP's byte-pair encoding of sentences: start, the sentence, end, then zeros.

    Text is cleaned as by OpenAI's code (ftfy mends it, HTML entities are resolved, lower case);
    what is longer than the context is cut, the end token is kept, and a `SentenceWarning` says how
    many tokens were left out.

    Args:
        find: Gives the `tokenizer.json` (the format of Hugging Face's tokenizers) with CLIP's
            vocabulary; asked at the first sentence.
        vocabulary: How many tokens the model knows.
        context: How many token numbers to give.
    """

    def __init__(self, find: Callable[[], str | Path], vocabulary: int = 49408, context: int = 77):
        self._find = find
        self._vocabulary = vocabulary
        self._context = context

    def __call__(self, sentences: Sequence[str]) -> Int32[np.ndarray, "b n"]:
        """Token numbers, a row for each sentence.

        Raises:
            TypeError: One string instead of a list of them.
            ImportError: The extra `text` is not installed.
            ValueError: No such file, another format, or another vocabulary.
        """
        if isinstance(sentences, str):
            raise TypeError(f"sentences: expected a list of strings, got {sentences!r}")
        clean, encode = self._read
        rows = encode([clean(sentence) for sentence in sentences])
        for sentence, row in zip(sentences, rows, strict=True):
            _warn_if_cut(sentence, row)
        return np.array([row.ids for row in rows], np.int32).reshape(-1, self._context)

    def one(self, sentence: str) -> Int32[np.ndarray, " n"]:
        """Token numbers of one sentence."""
        if not isinstance(sentence, str):
            raise TypeError(f"sentence: expected a string, got {type(sentence).__name__}")
        return self([sentence])[0]

    def words(self, sentence: str) -> Words:
        """The words of a sentence as far as it is read, and which of them each token is of.

        A word is what the vocabulary's own rule takes for one before it is cut into pieces:
        letters, a digit, marks in a row ("don't" is "don" and "'t"). It is given as it is read,
        in lower case.
        """
        clean, encode = self._read
        text = clean(sentence)
        (row,) = encode([text])
        end = row.ids.index(self._vocabulary - 1)
        owners = np.full(self._context, PADDING, np.int32)
        owners[0], owners[end] = START, END
        spans: list[tuple[int, int]] = []
        last = None
        for i in range(1, end):
            begin, stop = row.offsets[i]
            if row.word_ids[i] != last:
                last = row.word_ids[i]
                spans.append((begin, stop))
            spans[-1] = min(begin, spans[-1][0]), max(stop, spans[-1][1])
            owners[i] = len(spans) - 1
        return Words(tuple(text[begin:stop] for begin, stop in spans), owners)

    @cached_property
    def file(self) -> Path:
        """The `tokenizer.json`."""
        return Path(self._find())

    @cached_property
    def _read(self) -> tuple[Callable[[str], str], Callable[[list[str]], list[Any]]]:
        try:
            import ftfy
            import tokenizers
        except ImportError as error:
            raise ImportError(
                f'sentences need {error.name}: pip install "fam-jax[text]" '
                '(in a clone: pip install ".[text]")'
            ) from error

        def clean(text: str) -> str:
            # The file's own rule makes lower case too, but of a Greek final sigma another letter.
            return html.unescape(html.unescape(ftfy.fix_text(text))).lower()

        file = self.file
        if not file.is_file():
            raise ValueError(f"there is no tokenizer file {file}")
        with _damage_named(file):
            bpe = tokenizers.Tokenizer.from_file(str(file))
            bpe.no_padding()
            bpe.no_truncation()
            size, empty = bpe.get_vocab_size(), bpe.encode("").ids
            largest = max(bpe.get_vocab().values(), default=0)
        last = self._vocabulary - 1
        if (size, largest) != (self._vocabulary, last) or len(empty) != 2 or empty[1] != last:
            raise ValueError(
                f"{file} is not CLIP's tokenizer: it has {size} tokens, and an empty sentence "
                f"gives {empty}; expected {self._vocabulary} tokens and [start, {last}]"
            )
        bpe.enable_truncation(self._context)
        bpe.enable_padding(length=self._context, pad_id=0)

        def encode(sentences: list[str]) -> list[Any]:
            with _damage_named(file):
                return bpe.encode_batch(sentences)

        return clean, encode


def _warn_if_cut(sentence: str, row: Any) -> None:
    read, left_out = (
        sum(part.special_tokens_mask.count(0) for part in parts)
        for parts in ([row], row.overflowing)
    )
    if left_out:
        warnings.warn(
            f"a sentence is longer than the network reads: the last {left_out} of its "
            f"{read + left_out} tokens were left out: {one_line(sentence, 60)!r}",
            SentenceWarning,
            stacklevel=2,
        )


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    """ValueError for whatever damage makes of the parser: a panic of Rust is no Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        what = one_line(str(error), 200)
        raise ValueError(f"{file} is not a tokenizer.json, or is damaged: {what}") from None
