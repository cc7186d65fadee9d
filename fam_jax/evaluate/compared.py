"""Methods compared on arrays of your own, without files: the numbers of every case."""

from collections.abc import Sequence

import jax
import numpy as np

import fam_jax
from fam_jax.evaluate.asking import Question, answer, named
from fam_jax.evaluate.cases import Batch
from fam_jax.evaluate.measures import Answer, measure


def compare(
    encode: fam_jax.Encoder,
    batch: Batch,
    methods: Sequence[str],
    measures: Sequence[str] = ("faithfulness",),
    similarity: fam_jax.Similarity = fam_jax.cosine,
    *,
    steps: int = 32,
    threshold: float | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """What is measured of several methods' maps of the same cases.

    Args:
        encode: any encoder, from `capture` or `encoder`.
        batch: the cases: images, what they are compared with, and what else a measure asks for.
        methods: names from `fam_jax.methods.names()`, your own registered ones among them, or of
            groups ("main", "baselines", "quick", "all").
        measures: names from `MEASURES`.
        similarity: what is explained.
        steps: of a deletion or insertion.
        threshold: the score from which a pair is the same, for "decisions".

    Returns:
        Method -> name of the number -> one for each case, [n]; `means` makes a table of it.

    Raises:
        ValueError, TypeError: for an unknown name, or a method or measure that the network or the
            cases have nothing for.

    Example:
        >>> import numpy as np
        >>> import fam_jax
        >>> from fam_jax import evaluate
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> images = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
        >>> z = np.asarray(encode(images).embeddings)
        >>> batch = evaluate.Batch.of(images, references=z[::-1], background=z)
        >>> found = evaluate.compare(encode, batch, ["fam", "contrastive"], steps=4)
        >>> found["fam"]["insertion"].shape
        (4,)
    """
    question = Question(
        batch.images, batch.references, batch.background, jax.random.key(0), batch.others
    )
    found = {}
    for name in named(methods):
        explain = lambda question, name=name: answer(name, encode, similarity, question)  # noqa: E731
        maps = explain(question)
        asked = Answer(encode, batch, explain, question, maps, threshold, steps)
        found[name] = measure(measures, asked).values
    return found
