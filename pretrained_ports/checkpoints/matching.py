"""Checkpoints into models: every tensor accounted for, or one error that says what is amiss."""

import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Literal, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from pretrained_ports.checkpoints.casting import cast
from pretrained_ports.checkpoints.dialects import DIALECTS, Dialect
from pretrained_ports.checkpoints.readers import Checkpoint, CheckpointError
from pretrained_ports.checkpoints.report import Report
from pretrained_ports.models.state import Shapes, fill, parameters

Model = TypeVar("Model", bound=nnx.Module)


def convert(
    checkpoint: Checkpoint,
    model_for: Callable[[Shapes], Model],
    dialects: Iterable[Dialect],
    param_dtype: DTypeLike = jnp.float32,
    architecture: str = "the model",
    head: Literal["drop", "keep"] = "drop",
) -> tuple[Model, Report]:
    """A model that holds a checkpoint's weights.

    Args:
        checkpoint: What `read` gave.
        model_for: Makes the model, which may be abstract (`nnx.eval_shape`), from the module paths
            and shapes that the checkpoint has to offer.
        dialects: Tables to try. The one that gives every key a place and every parameter a source
            is taken.
        param_dtype: Type that all floating-point weights are cast to.
        architecture: What to call the model in errors.
        head: Whether a projection head goes into the model, at "head", or is left out.

    Returns:
        The model and an account of every tensor.

    Raises:
        CheckpointError: No dialect fits, or more than one does; shapes or types differ; weights
            are not finite. Everything amiss is listed, on both sides.

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
    plans = [_plan(checkpoint, dialect, head) for dialect in dialects]
    known = [plan for plan in plans if not plan.unmatched]  # the others need no model made
    attempts = [_attempt(checkpoint, model_for, plan) for plan in known]
    if not any(report.names_fit for _, _, report in attempts):
        attempts = [_attempt(checkpoint, model_for, plan) for plan in plans]
    model, arrays, report = _choose(checkpoint, attempts, architecture)
    if not report.fits:
        raise CheckpointError(
            f"{checkpoint.path} does not fit {architecture}{_declared(checkpoint)} "
            f"(dialect {report.dialect}):\n{report.misfits()}"
        )
    fill(model, cast(_joined(arrays), param_dtype, str(checkpoint.path)))
    return model, report


class _Plan(NamedTuple):
    """Where one dialect wants every key to go, before there is a model."""

    dialect: Dialect
    placed: dict[str, tuple[str, np.ndarray]]
    ignored: dict[str, str]
    unmatched: dict[str, str]
    mismatched: dict[str, str]


def _plan(checkpoint: Checkpoint, dialect: Dialect, head: str) -> _Plan:
    plan = _Plan(dialect, {}, dict(checkpoint.ignored), {}, {})
    for key, tensor in checkpoint.tensors.items():
        if reason := dialect.reason_to_ignore(key):
            plan.ignored[key] = reason
            continue
        rule, in_head = dialect.place(key), dialect.place_head(key)
        if in_head and head == "drop":
            plan.ignored[key] = 'the projection head (head="keep" takes it)'
        elif rule := rule or in_head:
            try:
                plan.placed[key] = rule.target, rule.transform(tensor)
            except ValueError:
                plan.mismatched[key] = f"has {tensor.ndim} dimensions {list(tensor.shape)}"
        else:
            plan.unmatched[key] = str(list(tensor.shape))
    return plan


def _attempt(
    checkpoint: Checkpoint, model_for: Callable[[Shapes], Model], plan: _Plan
) -> tuple[Model, dict[str, np.ndarray], Report]:
    """Hold a plan against the model it asks for."""
    dialect, placed, ignored, unmatched, mismatched = plan
    model = model_for({path: array.shape for path, array in placed.values()})
    expected = {path: array.shape for path, array in parameters(model).items()}
    used, arrays, filled = {}, {}, {}
    for key, (target, array) in placed.items():
        path, start, stop, count = _part(target)
        if path not in expected:
            unmatched[key] = str(list(checkpoint.tensors[key].shape))
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


def _choose(checkpoint: Checkpoint, attempts: list, architecture: str) -> tuple:
    """The one attempt whose dialect fits.

    Raises:
        CheckpointError: None or several do; lists them, and what the nearest one leaves over.
    """
    fitting = [a for a in attempts if a[2].names_fit]
    fitting = [a for a in fitting if a[2].fits] or fitting
    if len(fitting) == 1 or len(attempts) == 1:
        return (fitting or attempts)[0]
    if fitting:
        names = ", ".join(report.dialect for _, _, report in fitting)
        raise CheckpointError(
            f"{checkpoint.path} fits more than one dialect: {names}; say which with dialect="
        )
    nearest = max((report for _, _, report in attempts), key=lambda report: len(report.used))
    counts = ", ".join(f"{report.dialect} places {len(report.used)}" for _, _, report in attempts)
    raise CheckpointError(
        f"{checkpoint.path} does not fit {architecture}{_declared(checkpoint)} in any dialect (of "
        f"{len(checkpoint.tensors)} keys, {counts}){_elsewhere(checkpoint, attempts)}; "
        f"by {nearest.dialect}:\n{nearest.misfits()}"
    )


def _declared(checkpoint: Checkpoint) -> str:
    """What a file of ours says it holds."""
    architecture = checkpoint.metadata.get("architecture")
    return f"; it says it holds {architecture!r}" if architecture else ""


def knows(checkpoint: Checkpoint, dialect: Dialect) -> bool:
    """Whether a table has a place, or a reason to ignore it, for every key of a checkpoint."""
    return dialect.claims(checkpoint.tensors) and not _plan(checkpoint, dialect, "keep").unmatched


def survey(
    checkpoint: Checkpoint, model_for: Callable[[Shapes], nnx.Module], dialect: Dialect
) -> Report:
    """The account that `convert` would give, without converting."""
    return _attempt(checkpoint, model_for, _plan(checkpoint, dialect, "drop"))[2]


def _elsewhere(checkpoint: Checkpoint, attempts: list) -> str:
    """Dialects of other models that know every key."""
    tried = {report.dialect for _, _, report in attempts}
    names = [
        name
        for name, dialect in DIALECTS.items()
        if name not in tried and knows(checkpoint, dialect)
    ]
    return f", but all its keys are known to {' and '.join(names)}" if names else ""
