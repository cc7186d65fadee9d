"""What is measured of a method's maps: numbers per case, and curves, by the name of the measure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax import metrics
from fam_jax._core.checks import check_choice
from fam_jax.evaluate.asking import Explain, Question
from fam_jax.evaluate.cases import Batch

_PERCENTILES = (50,)  # of ROAD, whose imputation is what takes the time
_MASKS = 0.3, 0.5, 0.7  # thresholds of a rescaled map


class Measured(NamedTuple):
    """Per case: numbers by name, and curves by name."""

    values: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Answer:
    """A batch of cases and what a method said of it.

    Attributes:
        encode: the network at its layer.
        batch: the cases.
        explain: the method: a question -> maps.
        question: what it was asked.
        maps: what it answered, [n h w].
        threshold: the score from which the images of a pair are the same, where that is asked.
        steps: of a deletion or insertion.
    """

    encode: fam_jax.Encoder
    batch: Batch
    explain: Explain
    question: Question
    maps: jax.Array
    threshold: float | None = None
    steps: int = 32

    @cached_property
    def curves(self) -> dict[str, metrics.Curve]:
        """Of deletion and insertion."""
        case = self.encode, self.batch.images, self.batch.references, self.maps
        return {
            "insertion": metrics.insertion(*case, steps=self.steps),
            "deletion": metrics.deletion(*case, steps=self.steps),
        }


def measure(names: Iterable[str], answer: Answer) -> Measured:
    """Some of `MEASURES`, in their order.

    Raises:
        ValueError: for an unknown name, or a measure of what the batch does not have.
    """
    names = set(names)
    for name in names:
        check_choice("measures", name, MEASURES)
    values: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    for name, of in MEASURES.items():
        if name in names:
            more, lines = of(answer)
            values |= more
            curves |= lines
    plain = lambda found: {name: np.asarray(x, np.float32) for name, x in found.items()}  # noqa: E731
    return Measured(plain(values), plain(curves))


def _given(answer: Answer, name: str) -> Any:
    value = getattr(answer.batch, name)
    if value is None:
        raise ValueError(f"{name}: this is measured of cases that have it, and the batch has none")
    return value


def _faithfulness(answer: Answer):
    case = answer.encode, answer.batch.images, answer.batch.references, answer.maps
    insertion, most = answer.curves["insertion"], answer.curves["deletion"]
    least = metrics.deletion(*case, steps=answer.steps, order="least")
    values = {
        "insertion": insertion.area,
        "deletion": most.area,
        "insertion - deletion": insertion.area - most.area,
        "AID": jnp.mean(least.values - most.values, axis=1),
        "ROAD at 50 %": metrics.road_combined(
            *case, jax.random.fold_in(answer.question.key, 1), percentiles=_PERCENTILES
        ),
        "average drop": metrics.average_drop(*case),
        "increase": metrics.increase(*case),
        "coherency": metrics.coherency(_again(answer), answer.batch.images),
        "complexity": metrics.complexity(answer.maps),
    }
    return values, {"insertion": insertion.values, "deletion": most.values}


def _again(answer: Answer) -> Callable:
    """Images -> the method's maps of them; a `partial` is a pytree of its arrays."""
    return partial(_of_images, answer.explain, answer.question)


def _of_images(explain: Explain, question: Question, images: jax.Array) -> jax.Array:
    return explain(question._replace(images=images))


def _pairs(answer: Answer):
    """Both pictures at once, each by its own map."""
    others = _given(answer, "others")
    own = np.asarray(answer.encode(answer.batch.images).embeddings)
    back = answer.explain(answer.question.turned(own))
    case = answer.encode, answer.batch.images, others, answer.maps, back
    deletion = metrics.deletion_pairs(*case, steps=answer.steps)
    insertion = metrics.insertion_pairs(*case, steps=answer.steps)
    return {"both: insertion - deletion": insertion.area - deletion.area}, {}


def _fidelity(answer: Answer):
    """How far the probability of the class falls without what the map shows."""
    prototypes = _given(answer, "prototypes")
    drop = metrics.fewshot_fidelity(answer.encode, answer.batch.images, prototypes, answer.maps)
    return {"fidelity: drop of log p": drop}, {}


def _decisions(answer: Answer):
    """Whether the pair is still told right at each step, averaged over the way."""
    same = _given(answer, "same")[:, None]
    if answer.threshold is None:
        raise ValueError("threshold: decisions are measured against one, and none is given")
    curves = answer.curves.items()
    right = {name: (curve.values >= answer.threshold) == same for name, curve in curves}
    return {f"accuracy under {name}": jnp.mean(hits, axis=1) for name, hits in right.items()}, {}


def _place(answer: Answer):
    masks = _given(answer, "masks")
    large = fam_jax.upsample(answer.maps, masks.shape[1:])
    values = {
        "mass inside": metrics.energy_in(large, masks),
        "pointing": metrics.pointing(large, masks),
    }
    return values, {}


def _region(answer: Answer):
    masks = _given(answer, "masks")
    large = fam_jax.upsample(answer.maps, masks.shape[1:])
    values = {f"IoU at {limit}": metrics.iou(large, masks, limit) for limit in _MASKS}
    boxes = metrics.box_of(masks.astype(np.float32))
    return values | {"box hit": metrics.box_hit(large, boxes)}, {}


def _sanity(answer: Answer):
    batch, question = answer.batch, answer.question
    swapped = question._replace(references=batch.swapped, others=batch.swapped_others)
    plain = fam_jax.activation_sum()(answer.encode(batch.images), batch.references)
    values = {
        "swap: Spearman": metrics.spearman(answer.maps, answer.explain(swapped)),
        "with sum of A: Spearman": metrics.spearman(*_alike(answer.maps, plain)),
        "max-sensitivity": metrics.max_sensitivity(_again(answer), batch.images, question.key),
    }
    return values, {}


def _alike(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both at the finer one's resolution."""
    size = tuple(max(pair) for pair in zip(a.shape[1:], b.shape[1:], strict=True))
    return fam_jax.upsample(a, size), fam_jax.upsample(b, size)


MEASURES: dict[str, Callable[[Answer], tuple[dict[str, Any], dict[str, Any]]]] = {
    "sanity": _sanity,
    "place": _place,
    "region": _region,
    "faithfulness": _faithfulness,
    "pairs": _pairs,
    "fidelity": _fidelity,
    "decisions": _decisions,
}
