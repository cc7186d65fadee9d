"""Methods asked by their name: a question of a case, the maps that answer it, groups of names."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

import fam_jax
from fam_jax import methods
from fam_jax._core.checks import check_choice
from fam_jax.evaluate.network import Network
from fam_jax.methods.registry import entry


class Question(NamedTuple):
    """Why are these images like their references?

    Attributes:
        images: [b H W c].
        references: their references' embeddings [b d].
        background: embeddings of others [n d].
        key: random numbers, for what is measured.
        others: the references themselves, where they are images, [b H W c].
    """

    images: np.ndarray
    references: np.ndarray
    background: np.ndarray
    key: jax.Array
    others: np.ndarray | None = None

    def turned(self, embeddings: np.ndarray) -> "Question":
        """The same of the reference images; `embeddings` are those of the images."""
        return self._replace(images=self.others, references=embeddings, others=self.images)


Explain = Callable[[Question], jax.Array]


def explainer(network: Network, name: str) -> Explain:
    """A question -> the maps of the images by the method of this name."""
    return partial(answer, name, network.encode, network.similarity)


def answer(
    name: str, encode: fam_jax.Encoder, similarity: fam_jax.Similarity, question: Question
) -> jax.Array:
    """The maps of the question's images.

    Raises:
        ValueError: for a method that has nothing to say of this network or task.
    """
    against = question.background if entry(name).background == "needed" else None
    method = methods.make(name, similarity, against)
    if "other" not in method.needs:
        return fam_jax.explain(encode, question.images, question.references, method).maps
    if question.others is None:
        raise ValueError("needs a reference that is one image")
    return _beside(encode, method, question.images, question.others)


@jax.jit
def _beside(encode, method, images, others):
    return method(encode(images, method), encode(others, method))


MAIN = (
    *("random", "centre", "activation-sum", "eigen-cam", "fam", "fam-contrastive"),
    *("decomposition", "contrastive", "grad-cam", "grad-cam-free", "hires-cam-free"),
    *("contrastive-free", "relevance-cam"),
)
BASELINES = ("random", "centre", "activation-sum", "eigen-cam", "grad-cam", "decomposition")


def groups() -> dict[str, tuple[str, ...]]:
    """Names of several methods at once."""
    every = methods.names()
    quick = tuple(name for name in every if not entry(name).copies)
    return {"all": tuple(every), "quick": quick, "baselines": BASELINES, "main": MAIN}


def named(names: Iterable[str]) -> list[str]:
    """The methods' names, each group in its place; each name once, in the order given.

    Raises:
        ValueError: for an unknown name.
    """
    found, several = [], groups()
    for name in names:
        check_choice("--methods", name, (*methods.names(), *several))
        found += several.get(name, (name,))
    if not found:
        raise ValueError("--methods: no method is named; see fam-jax evaluate --help")
    return list(dict.fromkeys(found))
