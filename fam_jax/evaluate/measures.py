"""What is measured of a method's maps: numbers per case, by the name of the measure."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax
from fam_jax import metrics
from fam_jax._core.checks import check_choice
from fam_jax.evaluate.asking import Question, answer, answered, made, named, refusal
from fam_jax.evaluate.cases import Batch
from fam_jax.evaluate.network import Network

_PERCENTILES = (50,)  # of ROAD, whose imputation is what takes the time
_MASKS = 0.3, 0.5, 0.7  # thresholds of a rescaled map
_RANDOM = {"last stage": 0.0, "half": 0.5, "all": 1.0}  # shares of the network


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method answers to the questions of a batch of cases.

    `threshold` is the score from which the images of a pair are the same, `steps` are those of a
    deletion or insertion, and `network` is what the encoder is of; where they are asked for.
    """

    method: str
    encode: fam_jax.Encoder
    similarity: fam_jax.Similarity
    batch: Batch
    key: jax.Array
    threshold: float | None = None
    steps: int = 32
    network: Network | None = None

    @property
    def question(self) -> Question:
        """What is asked first."""
        return Question.of(self.batch)

    @property
    def explain(self) -> Callable[[Question], jax.Array]:
        """A question -> maps."""
        return partial(answer, self.method, self.encode, self.similarity)

    @cached_property
    def maps(self) -> jax.Array:
        """The maps [n h w]."""
        return self.explain(self.question)

    @property
    def case(self) -> tuple[fam_jax.Encoder, np.ndarray, np.ndarray, jax.Array]:
        """The first arguments of most metrics."""
        return self.encode, self.batch.images, self.batch.references, self.maps

    @cached_property
    def curves(self) -> dict[str, metrics.Curve]:
        """Of deletion and insertion."""
        return {
            "insertion": metrics.insertion(*self.case, steps=self.steps),
            "deletion": metrics.deletion(*self.case, steps=self.steps),
        }


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
    """What is measured of several methods' maps of the same cases: arrays, no files.

    Args:
        encode: any encoder, from `capture` or `encoder`.
        batch: the cases: images, what they are compared with, and what else a measure asks for.
        methods: names from `fam_jax.methods.names()`, your own registered ones among them, or of
            groups ("main", "baselines", "quick", "all"); those of a group that have nothing to
            say of this network are left out, with a warning.
        measures: names from `MEASURES`.
        similarity: what is explained.
        steps: of a deletion or insertion.
        threshold: the score from which a pair is the same, for "decisions".

    Returns:
        Method -> name of the number -> one for each case, [n]; `means` makes a table of it.

    Examples:
        >>> import numpy as np
        >>> import fam_jax
        >>> from fam_jax import evaluate
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> images = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
        >>> z = np.asarray(encode(images).embeddings)
        >>> batch = evaluate.Batch.of(images, references=z[::-1], background=z)
        >>> values = evaluate.compare(encode, batch, ["fam", "contrastive"], steps=4)
        >>> values["fam"]["insertion"].shape
        (4,)
    """
    case = encode, similarity, batch, jax.random.key(0), threshold, steps
    values = {}
    for name in named(methods):
        brought = name not in methods  # by a group
        if brought and (reason := refusal(encode, similarity, name, Question.of(batch))):
            warnings.warn(f"left out: {name}: {reason}", stacklevel=2)
        else:
            values[name] = measure(measures, Answer(name, *case))
    return values


def measure(names: Sequence[str], answer: Answer) -> dict[str, np.ndarray]:
    """Some of `MEASURES`, in their order; ValueError for one of what the batch does not have."""
    for name in names:
        check_choice("measures", name, MEASURES)
    parts = [MEASURES[name](answer) for name in MEASURES if name in names]
    return {name: np.asarray(x, np.float32) for part in parts for name, x in part.items()}


def _given(answer: Answer, name: str) -> Any:
    value = getattr(answer.batch, name)
    if value is None:
        raise ValueError(f"{name}: this is measured of cases that have it, and the batch has none")
    return value


def _faithfulness(answer: Answer):
    case, insertion, most = answer.case, answer.curves["insertion"], answer.curves["deletion"]
    least = metrics.deletion(*case, steps=answer.steps, order="least")
    return {
        "insertion": insertion.area,
        "deletion": most.area,
        "insertion - deletion": insertion.area - most.area,
        "AID": jnp.mean(least.values - most.values, axis=1),
        "average drop": metrics.average_drop(*case),
        "increase": metrics.increase(*case),
        "coherency": metrics.coherency(_again(answer), answer.batch.images),
        "complexity": metrics.complexity(answer.maps),
    }


def _road(answer: Answer):
    key = jax.random.fold_in(answer.key, 1)
    return {"ROAD at 50 %": metrics.road_combined(*answer.case, key, percentiles=_PERCENTILES)}


def _again(answer: Answer) -> Callable:
    """Images -> the method's maps of them, a pytree of its arrays: one program for all batches."""
    method = made(answer.method, answer.similarity, answer.question.background)
    return partial(_of_images, method, answer.encode, answer.question)


def _of_images(
    method: fam_jax.Method, encode: fam_jax.Encoder, question: Question, images: Any
) -> jax.Array:
    return answered(method, encode, question._replace(images=images))


def _pairs(answer: Answer):
    """Both pictures at once, each by its own map."""
    images, others = answer.batch.images, _given(answer, "others")
    own = np.asarray(answer.encode(images).embeddings)
    turned = answer.question._replace(images=others, references=own, others=images)
    case = answer.encode, images, others, answer.maps, answer.explain(turned)
    deletion = metrics.deletion_pairs(*case, steps=answer.steps)
    insertion = metrics.insertion_pairs(*case, steps=answer.steps)
    return {"both: insertion - deletion": insertion.area - deletion.area}


def _fidelity(answer: Answer):
    """How far the probability of the class falls without what the map shows."""
    prototypes = _given(answer, "prototypes")
    drop = metrics.fewshot_fidelity(answer.encode, answer.batch.images, prototypes, answer.maps)
    return {"fidelity: drop of log p": drop}


def _decisions(answer: Answer):
    """Whether the pair is still told right at each step, averaged over the way."""
    same = _given(answer, "same")[:, None]
    if answer.threshold is None:
        raise ValueError("threshold: decisions are measured against one, and none is given")
    return {
        f"accuracy under {name}": jnp.mean((curve.values >= answer.threshold) == same, axis=1)
        for name, curve in answer.curves.items()
    }


def _place(answer: Answer):
    masks = _given(answer, "masks")
    large = fam_jax.upsample(answer.maps, masks.shape[1:])
    return {
        "mass inside": metrics.energy_in(large, masks),
        "pointing": metrics.pointing(large, masks),
    }


def _region(answer: Answer):
    masks = _given(answer, "masks")
    large = fam_jax.upsample(answer.maps, masks.shape[1:])
    boxes = metrics.box_of(masks.astype(np.float32))
    values = {f"IoU at {limit}": metrics.iou(large, masks, limit) for limit in _MASKS}
    return {**values, "box hit": metrics.box_hit(large, boxes)}


def _sanity(answer: Answer):
    batch, question = answer.batch, answer.question
    swapped = question._replace(references=batch.swapped, others=batch.swapped_others)
    plain = fam_jax.activation_sum()(answer.encode(batch.images), batch.references)
    finer = tuple(np.maximum(answer.maps.shape[1:], plain.shape[1:]).tolist())
    alike = (fam_jax.upsample(maps, finer) for maps in (answer.maps, plain))
    return {
        "swap: Spearman": metrics.spearman(answer.maps, answer.explain(swapped)),
        "with sum of A: Spearman": metrics.spearman(*alike),
        "max-sensitivity": metrics.max_sensitivity(_again(answer), batch.images, answer.key),
    }


def _randomisation(answer: Answer):
    """Do maps change when the network forgets what it knows? References are embedded anew."""
    if answer.network is None:
        raise ValueError("network: this is measured of a network, not of an encoder")
    others, background = _given(answer, "others"), _given(answer, "background_images")
    values = {}
    for name, share in _RANDOM.items():
        other = _randomised(answer.network, share)
        question = answer.question._replace(
            references=other.embed(others), background=other.embed(background)
        )
        maps = replace(answer, encode=other.encode).explain(question)
        values[f"{name} random: Spearman"] = metrics.spearman(answer.maps, maps)
    return values


@lru_cache(maxsize=len(_RANDOM))  # the same networks for every method and batch
def _randomised(network: Network, share: float) -> Network:
    """A copy whose last parts have random parameters: at least one of them."""
    stages = network.stages()
    count = max(1, round(share * len(stages)))
    parts = tuple(part for stage in stages[-count:] for part in stage)
    model = metrics.randomised(network.backbone.model, parts, jax.random.key(0))
    return network.with_model(model)


MEASURES: dict[str, Callable[[Answer], dict[str, Any]]] = {
    "sanity": _sanity,
    "randomisation": _randomisation,
    "place": _place,
    "region": _region,
    "faithfulness": _faithfulness,
    "road": _road,
    "pairs": _pairs,
    "fidelity": _fidelity,
    "decisions": _decisions,
}
