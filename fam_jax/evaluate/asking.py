"""Methods asked by their name: a question of a case, the maps that answer it, groups of names."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

import fam_jax
from fam_jax import methods
from fam_jax._core.brief import message
from fam_jax._core.checks import AnyArray, check_choice
from fam_jax.evaluate.cases import Batch
from fam_jax.methods.registry import entry


class Question(NamedTuple):
    """Why are these images [b H W c] like their references, embeddings [b d]?"""

    images: np.ndarray
    references: np.ndarray
    background: np.ndarray  # embeddings of others [n d]
    others: np.ndarray | None = None  # the references, where they are images [b H W c]

    @classmethod
    def of(cls, batch: Batch) -> "Question":
        """Of every case of the batch."""
        return cls(batch.images, batch.references, batch.background, batch.others)


_NO_IMAGE = "needs a reference that is one image"


def answer(
    name: str, encode: fam_jax.Encoder, similarity: fam_jax.Similarity, question: Question
) -> jax.Array:
    """The maps of the question's images, by a method's name."""
    return answered(made(name, similarity, question.background), encode, question)


def answered(method: fam_jax.Method, encode: fam_jax.Encoder, question: Question) -> jax.Array:
    """The maps of the question's images."""
    if "other" not in method.needs:
        return fam_jax.explain(encode, question.images, question.references, method).maps
    if question.others is None:
        raise ValueError(_NO_IMAGE)
    return _beside(encode, method, question.images, question.others)


@jax.jit
def _beside(encode, method, images, others):
    return method(encode(images, method), encode(others, method))


def refusal(
    encode: fam_jax.Encoder, similarity: fam_jax.Similarity, name: str, question: Question
) -> str | None:
    """Why a method has nothing to say of this network, its similarity or the task, in one line.

    Methods refuse when they are made, or when what they read of the network is looked up; what
    goes wrong later, in their maps, is an error.
    """
    try:
        method = made(name, similarity, question.background)
        if "other" in method.needs and question.others is None:
            return _NO_IMAGE
        if method.needs_images:
            jax.eval_shape(lambda images: encode(images, method), question.images)
    except (TypeError, ValueError) as error:
        return message(error)
    return None


def made(name: str, similarity: fam_jax.Similarity, background: AnyArray) -> fam_jax.Method:
    """A method by its name; `background` is what the contrastive ones subtract."""
    needed = entry(name).background == "needed"
    return methods.make(name, similarity, background if needed else None)


MAIN = (
    *("random", "centre", "activation-sum", "eigen-cam", "fam", "fam-contrastive"),
    *("decomposition", "contrastive", "grad-cam", "grad-cam-free", "hires-cam-free"),
    *("contrastive-free", "relevance-cam"),
    # of transformers
    *("attention-rollout", "chefer", "le-grad", "le-grad-contrastive", "grad-eclip"),
)
BASELINES = ("random", "centre", "activation-sum", "eigen-cam", "grad-cam", "decomposition")


def named(names: Iterable[str], argument: str = "methods") -> list[str]:
    """The methods' names, each group in its place; each name once, in the order given.

    ValueError for an unknown name, or none at all; the message calls them `argument`.
    """
    every = methods.names()
    quick = [name for name in every if not entry(name).copies]
    groups = {"all": every, "quick": quick, "baselines": BASELINES, "main": MAIN}
    members = []
    for name in names:
        check_choice(argument, name, (*every, *groups))
        members += groups.get(name, (name,))
    if not members:
        raise ValueError(
            f"{argument}: no method is named; expected some, or a group: {', '.join(groups)}"
        )
    return list(dict.fromkeys(members))
