"""What is measured of a method's maps, task by task: numbers per case, and curves."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax import metrics
from fam_jax.evaluate.asking import Question
from fam_jax.evaluate.cases import Batch
from fam_jax.evaluate.network import Network

_PERCENTILES = (50,)  # of ROAD, whose imputation is what takes the time
_MASKS = 0.3, 0.5, 0.7  # thresholds of a rescaled map


class Measured(NamedTuple):
    """Per case: numbers by name, and curves by name."""

    values: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]


def measure(
    task: str,
    network: Network,
    batch: Batch,
    explain: Callable[[Question], jax.Array],
    question: Question,
    maps: jax.Array,
    figures: dict[str, float | int],
    steps: int,
) -> Measured:
    """Everything of the task's list for one batch of maps.

    Args:
        task: one of `tasks.TASKS`.
        network: what embeds.
        batch: the cases.
        explain: the method.
        question: what it was asked.
        maps: what it answered, [n h w].
        figures: the network's own figures for the task.
        steps: of a deletion or insertion.
    """
    values, curves = {}, {}
    if task == "sanity":
        values |= _sanity(network, batch, explain, question, maps)
    if task in ("mosaic", "localization"):
        values |= _place(task, batch, maps)
    if task in ("fewshot", "contrastive", "retrieval", "verification", "localization"):
        found, curves = _faithfulness(network, batch, explain, question, maps, steps)
        values |= found
    if task in ("retrieval", "verification"):
        values |= _pairs(network, batch, explain, question, maps, steps)
    if task == "fewshot":
        assert batch.prototypes is not None
        values["fidelity: drop of log p"] = metrics.fewshot_fidelity(
            network.encode, batch.images, batch.prototypes, maps
        )
    if task == "verification":
        values |= _decisions(batch, curves, figures["threshold"])
    plain = lambda found: {name: np.asarray(x, np.float32) for name, x in found.items()}  # noqa: E731
    return Measured(plain(values), plain(curves))


def _faithfulness(
    network: Network, batch: Batch, explain, question: Question, maps: jax.Array, steps: int
):
    case = network.encode, batch.images, batch.references, maps
    most = metrics.deletion(*case, steps=steps)
    least = metrics.deletion(*case, steps=steps, order="least")
    insertion = metrics.insertion(*case, steps=steps)
    values = {
        "insertion": insertion.area,
        "deletion": most.area,
        "insertion - deletion": insertion.area - most.area,
        "AID": jnp.mean(least.values - most.values, axis=1),
        "ROAD at 50 %": metrics.road_combined(
            *case, jax.random.fold_in(question.key, 1), percentiles=_PERCENTILES
        ),
        "average drop": metrics.average_drop(*case),
        "increase": metrics.increase(*case),
        "coherency": metrics.coherency(partial(_again, explain, question), batch.images),
        "complexity": metrics.complexity(maps),
    }
    return values, {"insertion": insertion.values, "deletion": most.values}


def _again(explain: Callable, question: Question, images: jax.Array) -> jax.Array:
    """The method's maps of other images; a `partial` of this is a pytree of arrays."""
    return explain(question._replace(images=images))


def _pairs(
    network: Network, batch: Batch, explain, question: Question, maps: jax.Array, steps: int
):
    """Both pictures at once, each by its own map."""
    back = explain(question.turned(network.embed(batch.images)))
    assert batch.others is not None
    case = network.encode, batch.images, batch.others, maps, back
    deletion = metrics.deletion_pairs(*case, steps=steps)
    insertion = metrics.insertion_pairs(*case, steps=steps)
    return {"both: insertion - deletion": insertion.area - deletion.area}


def _decisions(batch: Batch, curves, threshold: float):
    """Whether the pair is still told right at each step, averaged over the way."""
    assert batch.same is not None
    same = batch.same[:, None]
    right = {name: (curve >= threshold) == same for name, curve in curves.items()}
    return {f"accuracy under {name}": jnp.mean(hits, axis=1) for name, hits in right.items()}


def _place(task: str, batch: Batch, maps: jax.Array):
    masks = batch.masks
    assert masks is not None
    large = fam_jax.upsample(maps, masks.shape[1:])
    values = {
        "mass inside": metrics.energy_in(large, masks),
        "pointing": metrics.pointing(large, masks),
    }
    if task == "localization":
        for threshold in _MASKS:
            values[f"IoU at {threshold}"] = metrics.iou(large, masks, threshold)
        boxes = metrics.box_of(masks.astype(np.float32))
        values["box hit"] = metrics.box_hit(large, boxes)
    return values


def _sanity(network: Network, batch: Batch, explain, question: Question, maps: jax.Array):
    swapped = explain(question._replace(references=batch.swapped, others=batch.swapped_others))
    plain = fam_jax.activation_sum()(network.encode(batch.images), batch.references)
    return {
        "swap: Spearman": metrics.spearman(maps, swapped),
        "with sum of A: Spearman": metrics.spearman(*_alike(maps, plain)),
        "max-sensitivity": metrics.max_sensitivity(
            partial(_again, explain, question), batch.images, question.key
        ),
    }


def _alike(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both at the finer one's resolution."""
    size = tuple(max(pair) for pair in zip(a.shape[1:], b.shape[1:], strict=True))
    return fam_jax.upsample(a, size), fam_jax.upsample(b, size)
