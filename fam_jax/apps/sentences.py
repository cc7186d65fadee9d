"""`--text`: the text tower beside the image tower, and what every word holds of the similarity."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax._core.brief import legible
from fam_jax.apps import network

if TYPE_CHECKING:
    from pretrained_ports import TextBackbone
else:
    TextBackbone = Any  # imported by those commands alone that need one

METHOD = "decomposition"  # of the words, whatever draws the picture's map: its shares add up


def open_tower(
    model: str, weights: Any, tokenizer: Path | None, entry: str | None
) -> "TextBackbone":
    """The text tower that belongs to a model; weights as for `network.open_network`."""
    import pretrained_ports

    if weights == network.RANDOM:
        return pretrained_ports.create_text(model, tokenizer=tokenizer)
    return pretrained_ports.load_text(model, weights, tokenizer, entry=entry)


def word_shares(
    encode: fam_jax.Encoder,
    tower: "TextBackbone",
    gates: str | None,
    seen: Sequence[tuple[Any, ...]],
    texts: Sequence[str],
    similarity: fam_jax.Similarity,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What each word of a sentence holds of its similarity to the picture, a view for each.

        score = sum of the words' shares + start + end + padding + rest

    The rest is what belongs to no token: positions and biases, with free gates all that is not
    linear, too. A background takes no part: it does not depend on the sentence's words.

    Returns:
        Arrays for maps.npz, a row for each sentence: tokens, their shares, the word each is of;
        and what the manifest says.
    """
    of_text = fam_jax.capture(tower, gates=gates)
    views = list({id(view): view for view, *_ in seen}.values())
    found = {id(view): encode(view.input[None]).embeddings[0] for view in views}
    z = jnp.stack([found[id(view)] for view, *_ in seen])
    out = fam_jax.explain(of_text, list(texts), z, fam_jax.decomposition(similarity))
    shares = np.asarray(out.maps)
    cut = [tower.tokenize.words(text) for text in texts]
    arrays = {
        "tokens": tower.tokenize(texts),
        "token_shares": shares,
        "token_words": np.stack([words.owners for words in cut]),
    }
    said = []
    for words, own, score, valid in zip(cut, shares, out.scores, out.valid, strict=True):
        sums, apart = words.sums(own)
        apart |= {"rest": float(score) - float(own.sum(dtype=np.float64))}
        told = lambda share, valid=valid: float(share) if valid else None  # noqa: E731
        pairs = zip(words.words, sums, strict=True)
        said.append(
            {
                "words": [{"word": word, "share": told(share)} for word, share in pairs],
                "apart": {name: told(share) for name, share in apart.items()},
                "score": told(score),
            }
        )
    facts = {"words": said, "words_method": METHOD}
    return arrays, facts | {"words_layer": of_text.at, "words_gates": of_text.gates}


def line(words: dict[str, Any]) -> str:
    """The words of one sentence with their shares, for the terminal."""
    inside = ", ".join(f"{_quoted(of['word'])} {of['share']:+.4f}" for of in words["words"])
    apart = ", ".join(f"{name} {share:+.4f}" for name, share in words["apart"].items())
    return f"words: {inside}; apart: {apart}"


def _quoted(word: str) -> str:
    return word if word.isalnum() else f'"{legible(word)}"'
