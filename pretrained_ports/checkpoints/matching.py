"""Checkpoints into models: every tensor accounted for, or one error that says what is amiss."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from pretrained_ports.checkpoints.attempts import Model, attempt_of, axis_part
from pretrained_ports.checkpoints.beside import Layer, names_of
from pretrained_ports.checkpoints.casting import cast
from pretrained_ports.checkpoints.dialects import DIALECTS, Dialect
from pretrained_ports.checkpoints.errors import CheckpointError
from pretrained_ports.checkpoints.parts import LARGEST, choose, entry_name, search, starts
from pretrained_ports.checkpoints.plans import LINEAR_HEAD, make_plan, plan_of
from pretrained_ports.checkpoints.readers import Checkpoint
from pretrained_ports.checkpoints.report import Report
from pretrained_ports.models.state import Shapes, fill, parameters


def convert(
    checkpoint: Checkpoint,
    model_for: Callable[[Shapes], Model],
    dialects: Iterable[Dialect],
    param_dtype: DTypeLike = jnp.float32,
    architecture: str = "the model",
    head: Literal["drop", "keep"] = "drop",
    entry: str | None = None,
) -> tuple[Model, Report]:
    """A model that holds a checkpoint's weights.

    Args:
        checkpoint: What `read` gave. The part of it is searched that fills the model; the rest is
            ignored.
        model_for: Makes the model, which may be abstract (`nnx.eval_shape`), from the module paths
            and shapes that the checkpoint has to offer.
        dialects: Tables to try. The one that gives every key a place and every parameter a source
            is taken.
        param_dtype: Type that all floating-point weights are cast to.
        architecture: What to call the model in errors.
        head: Whether a projection head goes into the model, at "head", or is left out; where there
            is none, the one linear layer in a classifier's place.
        entry: The part to take, by the name of a dictionary or of a prefix.

    Returns:
        The model and an account of every tensor.

    Raises:
        CheckpointError: No dialect fits, or more than one does; shapes or types differ; weights
            are not finite. Everything amiss is listed, on both sides. Or several parts fit, and
            none has a name that is usual for it.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from flax import nnx
        >>> from pretrained_ports.checkpoints import read, write
        >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> path = write(Path(tempfile.mkdtemp()) / "a.safetensors", model, {"architecture": "toy"})
        >>> model, report = convert(read(path), lambda shapes: model, [DIALECTS["native"]])
        >>> report.used
        {'bias': 'bias', 'kernel': 'kernel'}
    """
    found = find(checkpoint, model_for, dialects, architecture, head, entry)
    fill_from(found, param_dtype)
    return found.model, found.report


class Found(NamedTuple):
    """A model, what goes into it by target, the account, and the part of the file it comes from."""

    model: Any
    arrays: dict[str, np.ndarray]
    report: Report
    part: Checkpoint


def find(
    checkpoint: Checkpoint,
    model_for: Callable[[Shapes], Model],
    dialects: Iterable[Dialect],
    architecture: str = "the model",
    head: str = "drop",
    entry: str | None = None,
) -> Found:
    """What `convert` does before anything is cast or filled; its arguments and errors."""
    tables, near = list(dialects), []

    def fitting(part: Checkpoint, *, headed: bool = False) -> tuple | None:
        plans = [make_plan(part, table, head, to_the_end=False) for table in tables]
        attempts = [attempt_of(part, model_for, plan) for plan in plans if not plan.unmatched]
        attempts = [attempt for attempt in attempts if attempt[2].names_fit]
        if any(attempt[2].fits for attempt in attempts):
            only = _only(part, attempts)
            return only if only[2].has_head or not headed else None
        near.extend(attempt[2] for attempt in attempts)
        return None

    smallest = len(parameters(model_for({})))
    found = head == "keep" and search(checkpoint, partial(fitting, headed=True), smallest, entry)
    if not (found := found or search(checkpoint, fitting, smallest, entry)):
        _refuse(starts(checkpoint, entry)[0], model_for, tables, near, architecture, head)
    part, (model, arrays, report), others = choose(found, architecture)
    report = replace(
        report,
        ignored={**part.ignored, **report.ignored},
        entry=entry_name(part) if others or entry else "",
        others=others,
    )
    return Found(model, arrays, report, part)


def with_head_of(found: Found, model_for: Callable[[Shapes], Model], layer: Layer) -> Found:
    """The same with a linear layer beside the network as its head."""
    part, report, targets = found.part, found.report, {}
    arrays = dict(found.arrays)
    for path, tensor in layer.items():
        rule = LINEAR_HEAD[path.rpartition(".")[2]]
        targets[path], arrays[rule.target] = rule.target, rule.transform(tensor)
    taken = names_of(part, layer)
    report = replace(
        report,
        used={**report.used, **targets},
        ignored={key: why for key, why in report.ignored.items() if key not in taken},
    )
    model = model_for({target: array.shape for target, array in arrays.items()})
    return Found(model, arrays, report, replace(part, tensors={**part.tensors, **layer}))


def fill_from(found: Found, param_dtype: DTypeLike) -> None:
    """Put what was found into the model, all of one type; CheckpointError if it is not finite."""
    arrays = cast(_joined(found.arrays), param_dtype, str(found.part.path))
    fill(found.model, arrays)


def _joined(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by whole path, parts side by side along the last axis."""
    parts: dict[str, list[np.ndarray]] = {}
    for target in sorted(arrays):  # within a path, by where the part starts
        parts.setdefault(axis_part(target)[0], []).append(arrays[target])
    return {
        path: pieces[0] if len(pieces) == 1 else np.concatenate(pieces, -1)
        for path, pieces in parts.items()
    }


def _only(checkpoint: Checkpoint, attempts: list) -> tuple:
    """The one attempt whose dialect fits; CheckpointError if several do."""
    fitting = [attempt for attempt in attempts if attempt[2].fits]
    if len(fitting) > 1:
        names = ", ".join(report.dialect for _, _, report in fitting)
        raise CheckpointError(
            f"{checkpoint.path} fits more than one dialect: {names}; say which with dialect="
        )
    return fitting[0]


def _refuse(
    checkpoint: Checkpoint,
    model_for: Callable[[Shapes], Model],
    dialects: list[Dialect],
    near: list[Report],
    architecture: str,
    head: str,
) -> NoReturn:
    """Say what the nearest table leaves over, of the part whose names fit or of the usual one."""
    what = f"{checkpoint.path} does not fit {architecture}{_declared(checkpoint)}"
    if len(checkpoint.tensors) > LARGEST:
        raise CheckpointError(
            f"{what}: it has {len(checkpoint.tensors)} tensors, and a network {LARGEST} at most"
        )
    if not near:
        plans = [make_plan(checkpoint, dialect, head) for dialect in dialects]
        near = [attempt_of(checkpoint, model_for, plan)[2] for plan in plans]
    nearest = max(near, key=lambda report: len(report.used))
    if len(near) == 1:
        raise CheckpointError(f"{what} (dialect {nearest.dialect}):\n{nearest.misfits()}")
    counts = ", ".join(f"{report.dialect} places {len(report.used)}" for report in near)
    raise CheckpointError(
        f"{what} in any dialect (of {len(checkpoint.tensors)} keys, {counts})"
        f"{_elsewhere(checkpoint, dialects)}; by {nearest.dialect}:\n{nearest.misfits()}"
    )


def _declared(checkpoint: Checkpoint) -> str:
    """What a file of ours says it holds."""
    architecture = checkpoint.metadata.get("architecture")
    return f"; it says it holds {architecture!r}" if architecture else ""


def _elsewhere(checkpoint: Checkpoint, tried: list[Dialect]) -> str:
    """Dialects of other models that know every key; those of our own files know any."""
    names = [
        name
        for name, dialect in DIALECTS.items()
        if dialect not in tried and not name.startswith("native") and plan_of(checkpoint, dialect)
    ]
    return f", but all its keys are known to {' and '.join(names)}" if names else ""
