"""CLIP in small: a tokenizer.json, towers of two blocks, a file with both as OpenAI names them."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.models import clip_text
from pretrained_ports.models.state import parameters
from pretrained_ports.models.vit import VisionTransformer

NAME = "clip-vit-b32"

WORDS = ("a", "dog", "on", "the", "beach", "cat", "cats")
VOCABULARY = 2 * 256 + 13 + 2  # bytes inside and at the end of a word, parts of words, start, end
START, END = VOCABULARY - 2, VOCABULARY - 1
SENTENCES = ["a dog on the beach", "cats", "a dog on the beach a dog on the beach"]
# As published, with one block; read before the base tower is made small.
SHALLOW = {name: row._replace(depth=1) for name, row in clip_text.VARIANTS.items()}


def sentences() -> np.ndarray:
    """A row that ends early, one that fills the context, one in between."""
    rows = np.random.default_rng(0).integers(0, START, (3, 12), np.int32)
    for row, end in zip(rows, (2, 11, 6), strict=True):
        row[0], row[end], row[end + 1 :] = START, END, 0
    return rows


IDS = sentences()


def shrink(monkeypatch) -> None:
    """Make clip-vit-b32 small, both towers."""
    text = clip_text.Variant(16, 2, 2, 8, vocabulary=VOCABULARY, context=12)
    monkeypatch.setitem(clip_text.VARIANTS, "base", text)
    entry = ENTRIES[NAME]
    image = entry.build.args[0]._replace(dim=16, depth=2, heads=2, output=8)
    row = replace(entry, build=partial(VisionTransformer, image), layer="blocks.1.norm1")
    monkeypatch.setitem(ENTRIES, NAME, row)


_THEIRS = {
    ".norm": ".ln_",
    ".attn.qkv.kernel": ".attn.in_proj_weight",
    ".attn.qkv.bias": ".attn.in_proj_bias",
    ".attn.proj.": ".attn.out_proj.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    "blocks.": "transformer.resblocks.",
    "text_projection.kernel": "text_projection",
    "head.kernel": "proj",
    "patch_embed.proj": "conv1",
    "cls_token": "class_embedding",
    "pos_embed": "positional_embedding",
    "norm_pre": "ln_pre",
    "norm.": "ln_post.",
    ".kernel": ".weight",
    ".scale": ".weight",
    ".embedding": ".weight",
}


def save_openai(file: Path, text, image=None) -> Path:
    """Write a text tower, and an image tower beside it, as OpenAI and OpenCLIP name them."""
    arrays = {"logit_scale": np.array(4.6, "f")}
    for prefix, model in (("", text), ("visual.", image)):
        for path, value in parameters(model).items() if model else ():
            value = np.asarray(value)
            if path in ("cls_token", "pos_embed"):
                value = value.reshape(value.shape[1 + (path == "cls_token") :])
            elif path.endswith(".kernel") and path not in ("text_projection.kernel", "head.kernel"):
                value = value.T if value.ndim == 2 else value.transpose(3, 2, 0, 1)
            for ours, theirs in _THEIRS.items():
                path = path.replace(ours, theirs)
            arrays[prefix + path] = np.ascontiguousarray(value)
    save_file(arrays, file)
    return file


def write_tokenizer(file: Path) -> Path:
    """Write one like CLIP's, with the bytes and a few words; needs the text extra."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in WORDS:  # one letter after the other
        start, *letters = [*word[:-1], word[-1] + "</w>"]
        for letter in letters:
            merges.append((start, letter))
            start += letter
    merges = list(dict.fromkeys(merges))
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(tokens)}
    assert len(numbers) == VOCABULARY, len(numbers)

    bpe = Tokenizer(models.BPE(numbers, merges, end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True)
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, bytewise])
    end, start = ((token, numbers[token]) for token in reversed(tokens[-2:]))
    bpe.post_processor = processors.RobertaProcessing(end, start, False, False)
    bpe.save(str(file))
    return file
