"""Checkpoints into models and back to files: every tensor accounted for, or one error that says."""

import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from safetensors.numpy import save

from pretrained_ports.checkpoint import Checkpoint, CheckpointError, sha256
from pretrained_ports.dialects import DIALECTS, Dialect
from pretrained_ports.report import Report, listing

CONVERTER_VERSION = "1"  # goes up when a table maps an old file to other weights

Shapes = Mapping[str, tuple[int, ...]]
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
        >>> from pretrained_ports.checkpoint import read
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
            f"{checkpoint.path} does not fit {architecture}{_claim(checkpoint)} "
            f"(dialect {report.dialect}):\n{report.misfits()}"
        )
    fill(model, _joined(arrays), param_dtype, str(checkpoint.path))
    return model, report


def write(
    path: str | Path,
    model: nnx.Module,
    metadata: Mapping[str, str],
    text: nnx.Module | None = None,
) -> Path:
    """Write a model's weights as `.safetensors`, with module paths as keys ("native").

    Args:
        path: The file to write.
        model: Any module; all its parameters and batch statistics are written.
        metadata: Goes into the header, strings only: "architecture" at least; see `provenance`.
        text: The text tower beside an image tower; "text." comes before its module paths.

    Returns:
        The path.

    Raises:
        ValueError: The path does not end in `.safetensors`, or no architecture is given.
        CheckpointError: Weights are not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path.name}")
    if "architecture" not in metadata:
        raise ValueError(f"metadata must name the architecture, got {dict(metadata)}")
    arrays = {key: np.asarray(value) for key, value in parameters(model).items()}
    if text is not None:
        arrays |= {f"text.{key}": np.asarray(value) for key, value in parameters(text).items()}
    _check_finite(arrays, str(path))
    header = {"dialect": "native", "converter_version": CONVERTER_VERSION, **metadata}
    content = save(arrays, {key: str(value) for key, value in header.items()})
    part = path.with_name(f".{path.name}.part")  # an older file is replaced whole or not at all
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def provenance(architecture: str, source: str | Path) -> dict[str, str]:
    """Metadata for `write`: the architecture, and the file the weights come from with its hash."""
    return {
        "architecture": architecture,
        "source": Path(source).name,
        "source_sha256": sha256(source),
    }


def fill(
    model: nnx.Module, arrays: Mapping[str, np.ndarray], param_dtype: DTypeLike, source: str
) -> None:
    """Put an array at every module path of a model, cast to one type.

    Args:
        model: Any module, abstract or not; changed in place.
        arrays: Module path -> array of the parameter's shape, for every parameter.
        param_dtype: The type.
        source: Where the arrays come from, for the error.

    Raises:
        CheckpointError: Weights are not finite, or the type is too narrow for them.
    """
    _check_finite(arrays, source)
    with np.errstate(over="ignore"):
        arrays = {key: array.astype(param_dtype) for key, array in arrays.items()}
    _check_finite(arrays, source)  # again: a narrower type may not hold what the file holds
    arrays = jax.device_put(arrays)  # `jnp.asarray` compiles a program for every shape
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    filled = [
        (parts, variable.replace(arrays[_path(parts)]))
        for parts, variable in nnx.to_flat_state(state)
    ]
    nnx.update(model, nnx.from_flat_state(filled))


def parameters(model: nnx.Module) -> dict[str, jax.Array | jax.ShapeDtypeStruct]:
    """Module path -> array (or its abstract shape), for parameters and batch statistics.

    Example:
        >>> [(k, v.shape) for k, v in parameters(nnx.Linear(2, 3, rngs=nnx.Rngs(0))).items()]
        [('bias', (3,)), ('kernel', (2, 3))]
    """
    state = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {_path(path): variable.get_value() for path, variable in state}


def _path(parts: tuple) -> str:
    return ".".join(map(str, parts))


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
        path: found[0] if len(found) == 1 else np.concatenate(found, -1)
        for path, found in parts.items()
    }


def _taken_off(dialect: Dialect, keys: Iterable[str]) -> tuple[str, ...]:
    """The prefixes that these keys have."""
    found = (re.match(dialect.prefix, key) for key in keys)
    return tuple(dict.fromkeys(match.group() for match in found if match and match.group()))


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
        f"{checkpoint.path} does not fit {architecture}{_claim(checkpoint)} in any dialect (of "
        f"{len(checkpoint.tensors)} keys, {counts}){_elsewhere(checkpoint, attempts)}; "
        f"by {nearest.dialect}:\n{nearest.misfits()}"
    )


def _claim(checkpoint: Checkpoint) -> str:
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


def _check_finite(arrays: Mapping[str, np.ndarray], source: str) -> None:
    broken = {
        key: f"{array.dtype}{list(array.shape)}"
        for key, array in arrays.items()
        if not np.isfinite(array).all()
    }
    if broken:
        raise CheckpointError(f"{source}: weights that are not finite: {listing(broken)}")
