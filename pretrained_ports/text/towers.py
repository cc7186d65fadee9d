"""Text towers by name: `load_text` and `create_text`, beside `load` and `create` for images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int32

from pretrained_ports.catalog import find_entry
from pretrained_ports.catalog.clip_text import TEXT_DIALECTS, TOKENIZER, TOWERS
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.checkpoints.matching import convert
from pretrained_ports.checkpoints.readers import Checkpoint, read
from pretrained_ports.checkpoints.report import Report
from pretrained_ports.models.clip_text import TextTransformer
from pretrained_ports.models.state import check_dtype
from pretrained_ports.text.tokenizer import Tokenizer
from pretrained_ports.weights.hub import fetch
from pretrained_ports.weights.random import randomise


@dataclass(frozen=True)
class TextBackbone:
    """A text tower with all that is needed to use it; called on sentences, it embeds them.

    Attributes:
        name: Its name in the zoo, which is the image tower's.
        model: token numbers [b n] -> embeddings [b e], a flax.nnx module.
        tokenize: sentences -> token numbers [b n].
        embedding_dim: e, the same as the image tower's.
        source: Where the weights come from, in one line.
        report: What the conversion did with every tensor; None for random weights.
        layer: Path of the layer to explain by default, [b n c]: what each token brings in. Of what
            leaves the last block the embedding reads the end token alone.
        tokens: How the tokens lie, as `Backbone.tokens`: in a line, all of them.
        gates: As `Backbone.gates`.
    """

    name: str
    model: TextTransformer
    tokenize: Tokenizer
    embedding_dim: int
    source: str
    report: Report | None = None
    layer: str = "token_embedding"
    tokens: tuple[int, tuple[int] | None] = (0, None)
    gates: str = "frozen"

    @property
    def preprocess(self) -> Callable[[str], Int32[np.ndarray, " n"]]:
        """One sentence -> its token numbers [n]."""
        return self.tokenize.one

    def __repr__(self) -> str:
        return f"TextBackbone({self.name!r}, source={self.source!r})"

    def __call__(self, sentences: Sequence[str]) -> Float[Array, "n e"]:
        """The embedding of every sentence."""
        return _embed(self.model, jnp.asarray(self.tokenize(sentences)))


@nnx.jit
def _embed(model: TextTransformer, ids: Array) -> Array:
    return model(ids)


def create_text(
    name: str,
    seed: int = 0,
    tokenizer: str | Path | None = None,
    param_dtype: DTypeLike = jnp.float32,
) -> TextBackbone:
    """A text tower with random weights.

    Args:
        name: A model with a text tower: "clip-vit-b32", ...
        seed: The same seed gives the same weights.
        tokenizer: CLIP's `tokenizer.json`; None takes it from the hub at the first sentence.
        param_dtype: Type of the parameters, and of the computation.

    Raises:
        ValueError, ImportError: As `load_text`.

    Examples:
        >>> create_text("clip-vit-b32").embedding_dim
        512
    """
    model = _abstract(name, param_dtype)
    tokenize = _tokenizer(model, tokenizer)
    randomise(model, seed, param_dtype)
    return _bundle(name, model, tokenize, f"random weights, seed {seed}")


def load_text(
    name: str,
    weights: str | Path | Checkpoint | None = None,
    tokenizer: str | Path | None = None,
    dialect: str = "auto",
    param_dtype: DTypeLike = jnp.float32,
    entry: str | None = None,
) -> TextBackbone:
    """A text tower with trained weights.

    Args:
        name: A model with a text tower: "clip-vit-b32", ...
        weights: A checkpoint file, or what `read` gave; the image tower may be in it too. None
            takes the default weights from the hub.
        tokenizer: CLIP's `tokenizer.json`; None takes it from the hub at the first sentence.
        dialect: Names in the checkpoint: a key of `checkpoints.dialects.DIALECTS`, or "auto".
        param_dtype: Type of the parameters, and of the computation.
        entry: As for `load`.

    Raises:
        ValueError: The model has no text tower, unknown dialect, another tokenizer, or float64
            without 64-bit mode.
        CheckpointError: A file cannot be had or read, or does not fit the model.
        ImportError: A tokenizer is given, and the extra `text` is not installed.
    """
    model = _abstract(name, param_dtype)
    dialects = TEXT_DIALECTS if dialect == "auto" else (dialect,)
    if dialect not in ("auto", *TEXT_DIALECTS):
        raise ValueError(
            f"no dialect {dialect!r} for the text tower of {name}; there are: auto, "
            f"{', '.join(TEXT_DIALECTS)}"
        )
    tokenize = _tokenizer(model, tokenizer)
    source = ""
    if weights is None:
        hub = TOWERS[name].hub
        weights = fetch(hub, f"the text tower of {name}", "weights=FILE (--weights FILE)")
        source = f"{hub.repository} {hub.file}"
    checkpoint = weights if isinstance(weights, Checkpoint) else read(weights)
    model, report = convert(
        checkpoint,
        lambda shapes: model,
        [DIALECTS[d] for d in dialects],
        param_dtype,
        f"the text tower of {name}",
        entry=entry,
    )
    return _bundle(name, model, tokenize, source or str(checkpoint.path), report)


def _abstract(name: str, param_dtype: DTypeLike) -> TextTransformer:
    """The tower with shapes in place of arrays."""
    if name not in TOWERS:
        find_entry(name)  # a name that no model has gets the nearest ones
        raise ValueError(f"{name} has no text tower; these have: {', '.join(TOWERS)}")
    check_dtype(param_dtype)
    return nnx.eval_shape(lambda: TOWERS[name].build(rngs=nnx.Rngs(0), param_dtype=param_dtype))


def _tokenizer(model: TextTransformer, file: str | Path | None) -> Tokenizer:
    def find() -> str | Path:
        return file or fetch(TOKENIZER, "CLIP's tokenizer", "tokenizer=FILE (--tokenizer FILE)")

    length, _ = model.positional_embedding.shape
    tokenize = Tokenizer(find, model.token_embedding.num_embeddings, length)
    if file is not None:
        tokenize([])  # a wrong file is told of now, not at the first sentence
    return tokenize


def _bundle(
    name: str,
    model: TextTransformer,
    tokenize: Tokenizer,
    source: str,
    report: Report | None = None,
) -> TextBackbone:
    model.eval()
    return TextBackbone(name, model, tokenize, model.text_projection.out_features, source, report)
