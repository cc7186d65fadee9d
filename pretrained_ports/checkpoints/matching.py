"""Checkpoints into models: every tensor accounted for, or one error that says what is amiss."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from pretrained_ports.checkpoints.casting import cast
from pretrained_ports.checkpoints.dialects import DIALECTS, Dialect
from pretrained_ports.checkpoints.dialects.rules import CLASSIFIER, Rule, oi_to_io
from pretrained_ports.checkpoints.errors import CheckpointError
from pretrained_ports.checkpoints.parts import LARGEST, choose, entry_name, search, starts
from pretrained_ports.checkpoints.readers import Checkpoint
from pretrained_ports.checkpoints.report import Report
from pretrained_ports.models.state import Shapes, fill, parameters

Model = TypeVar("Model", bound=nnx.Module)
_NUMBER = "one number beside the layers"
_LINEAR = {"weight": Rule("", "head.0.kernel", oi_to_io), "bias": Rule("", "head.0.bias")}


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

    Example:
        >>> import tempfile
        >>> from pathlib import Path
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
        plans = [_plan(part, table, head, to_the_end=False) for table in tables]
        attempts = [_attempt(part, model_for, plan) for plan in plans if not plan.unmatched]
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


def fill_from(found: Found, param_dtype: DTypeLike) -> None:
    """Put what was found into the model, all of one type; CheckpointError if it is not finite."""
    arrays = cast(_joined(found.arrays), param_dtype, str(found.part.path))
    fill(found.model, arrays)


class Plan(NamedTuple):
    """Where one dialect wants every key to go, before there is a model."""

    dialect: Dialect
    placed: dict[str, tuple[str, np.ndarray]]
    ignored: dict[str, str]
    unmatched: dict[str, str]
    mismatched: dict[str, str]


def _plan(checkpoint: Checkpoint, dialect: Dialect, head: str, *, to_the_end: bool = True) -> Plan:
    """Where the keys go; up to the first that has no place, if no more is asked."""
    plan = Plan(dialect, {}, {}, {}, {})
    layer = linear_layer(checkpoint, dialect) if head == "keep" else None
    kept = {} if layer is None else {f"{layer}.{leaf}": rule for leaf, rule in _LINEAR.items()}
    for key, tensor in checkpoint.tensors.items():
        if key not in kept and (reason := dialect.reason_to_ignore(key)):
            plan.ignored[key] = reason
            continue
        rule, in_head = dialect.place(key), kept.get(key) or dialect.place_head(key)
        if in_head and head == "drop":
            plan.ignored[key] = 'the projection head (head="keep" takes it)'
        elif rule := rule or in_head:
            try:
                plan.placed[key] = rule.target, rule.transform(tensor)
            except ValueError:
                plan.mismatched[key] = f"has {tensor.ndim} dimensions {list(tensor.shape)}"
        elif _is_number(key, tensor):
            plan.ignored[key] = _NUMBER
        else:
            plan.unmatched[key] = str(list(tensor.shape))
            if not to_the_end:
                break
    return plan


def linear_layer(checkpoint: Checkpoint, dialect: Dialect) -> str | None:
    """The path of the linear layer in a classifier's place, if that is one, and no head is there.

    What was trained with a layer instead of the classifier has its embedding behind it.
    """
    keys = checkpoint.tensors
    last = [key for key in keys if dialect.reason_to_ignore(key) == CLASSIFIER]
    layers = {key.rpartition(".")[0] for key in last}
    leaves = {key.rpartition(".")[2] for key in last}
    if len(layers) != 1 or not {"weight"} <= leaves <= {"weight", "bias"}:
        return None
    (layer,) = layers
    two = keys[f"{layer}.weight"].ndim == 2
    return layer if two and not any(map(dialect.place_head, keys)) else None


def _is_number(key: str, tensor: np.ndarray) -> bool:
    """Whether it is one number beside the layers: an accuracy, a count of steps."""
    return "." not in key and tensor.size == 1


def _attempt(
    checkpoint: Checkpoint, model_for: Callable[[Shapes], Model], plan: Plan
) -> tuple[Model, dict[str, np.ndarray], Report]:
    """Hold a plan against the model it asks for."""
    dialect, placed, ignored, unmatched, mismatched = plan
    model = model_for({path: array.shape for path, array in placed.values()})
    expected = {path: array.shape for path, array in parameters(model).items()}
    used, arrays, filled = {}, {}, {}
    for key, (target, array) in placed.items():
        path, start, stop, count = _part(target)
        if path not in expected:
            tensor = checkpoint.tensors[key]
            if _is_number(key, tensor):
                ignored[key] = _NUMBER
            else:
                unmatched[key] = str(list(tensor.shape))
        elif target in arrays:
            mismatched[key] = f"would fill {target} a second time"
        else:
            used[key], arrays[target] = target, array
            filled[path] = filled.get(path, 0) + Fraction(stop - start, count)
            wanted = expected[path]
            if count > 1:
                wanted = (*wanted[:-1], wanted[-1] * (stop - start) // count)
            if array.shape != wanted:
                mismatched[key] = f"gives {list(array.shape)}, {target} is {list(wanted)}"
            elif not jnp.issubdtype(array.dtype, jnp.floating):
                mismatched[key] = f"is {array.dtype}, {target} is floating point"
    missing = {p: str(list(s)) for p, s in expected.items() if filled.get(p) != 1}
    if not dialect.claims(checkpoint.tensors):
        missing[dialect.needs] = "(a key of every such file)"
    return (
        model,
        arrays,
        Report(
            source=str(checkpoint.path),
            dialect=dialect.name,
            unwrapped=checkpoint.unwrapped + _taken_off(dialect, placed),
            used=used,
            ignored=ignored,
            unmatched=unmatched,
            missing=missing,
            mismatched=mismatched,
        ),
    )


def _part(target: str) -> tuple[str, int, int, int]:
    """A rule's target "path[start:stop/count]" as its four pieces; a whole path is 0:1 of 1."""
    match = re.fullmatch(r"(.+)\[(\d):(\d)/(\d)\]", target)
    if match is None:
        return target, 0, 1, 1
    path, start, stop, count = match.groups()
    return path, int(start), int(stop), int(count)


def _joined(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by whole path, parts side by side along the last axis."""
    parts: dict[str, list[np.ndarray]] = {}
    for target in sorted(arrays):  # within a path, by where the part starts
        parts.setdefault(_part(target)[0], []).append(arrays[target])
    return {
        path: pieces[0] if len(pieces) == 1 else np.concatenate(pieces, -1)
        for path, pieces in parts.items()
    }


def _taken_off(dialect: Dialect, keys: Iterable[str]) -> tuple[str, ...]:
    """The prefixes that these keys have."""
    matches = (re.match(dialect.prefix, key) for key in keys)
    return tuple(dict.fromkeys(match.group() for match in matches if match and match.group()))


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
        plans = [_plan(checkpoint, dialect, head) for dialect in dialects]
        near = [_attempt(checkpoint, model_for, plan)[2] for plan in plans]
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


def plan_of(checkpoint: Checkpoint, dialect: Dialect) -> Plan | None:
    """Where a table puts the keys; None if it has no place, or reason to ignore, for one of them.

    The table is asked once, whatever number of models there are to hold against what it says.
    """
    if not dialect.claims(checkpoint.tensors):
        return None
    plan = _plan(checkpoint, dialect, "drop", to_the_end=False)
    return None if plan.unmatched else plan


def survey(checkpoint: Checkpoint, model_for: Callable[[Shapes], nnx.Module], plan: Plan) -> Report:
    """The account that `convert` would give of one part, without converting."""
    unmatched, mismatched, ignored = map(dict, (plan.unmatched, plan.mismatched, plan.ignored))
    own = plan._replace(unmatched=unmatched, mismatched=mismatched, ignored=ignored)
    return _attempt(checkpoint, model_for, own)[2]


def _elsewhere(checkpoint: Checkpoint, tried: list[Dialect]) -> str:
    """Dialects of other models that know every key; those of our own files know any."""
    names = [
        name
        for name, dialect in DIALECTS.items()
        if dialect not in tried and not name.startswith("native") and plan_of(checkpoint, dialect)
    ]
    return f", but all its keys are known to {' and '.join(names)}" if names else ""
