"""What a dialect's plan for a checkpoint comes to with a model: the account of every tensor."""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from pretrained_ports.checkpoints.dialects import Dialect
from pretrained_ports.checkpoints.plans import NUMBER, Plan, is_number
from pretrained_ports.checkpoints.readers import Checkpoint
from pretrained_ports.checkpoints.report import Report
from pretrained_ports.models.state import Shapes, parameters

Model = TypeVar("Model", bound=nnx.Module)


def attempt_of(
    checkpoint: Checkpoint, model_for: Callable[[Shapes], Model], plan: Plan
) -> tuple[Model, dict[str, np.ndarray], Report]:
    """Hold a plan against the model it asks for."""
    dialect, placed, ignored, unmatched, mismatched = plan
    model = model_for({path: array.shape for path, array in placed.values()})
    expected = {path: array.shape for path, array in parameters(model).items()}
    used, arrays, filled = {}, {}, {}
    for key, (target, array) in placed.items():
        path, start, stop, count = axis_part(target)
        if path not in expected:
            tensor = checkpoint.tensors[key]
            if is_number(key, tensor):
                ignored[key] = NUMBER
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


def axis_part(target: str) -> tuple[str, int, int, int]:
    """A rule's target "path[start:stop/count]" as its four pieces; a whole path is 0:1 of 1."""
    match = re.fullmatch(r"(.+)\[(\d):(\d)/(\d)\]", target)
    if match is None:
        return target, 0, 1, 1
    path, start, stop, count = match.groups()
    return path, int(start), int(stop), int(count)


def _taken_off(dialect: Dialect, keys: Iterable[str]) -> tuple[str, ...]:
    """The prefixes that these keys have."""
    matches = (re.match(dialect.prefix, key) for key in keys)
    return tuple(dict.fromkeys(match.group() for match in matches if match and match.group()))


def survey(checkpoint: Checkpoint, model_for: Callable[[Shapes], nnx.Module], plan: Plan) -> Report:
    """The account that `convert` would give of one part, without converting."""
    unmatched, mismatched, ignored = map(dict, (plan.unmatched, plan.mismatched, plan.ignored))
    own = plan._replace(unmatched=unmatched, mismatched=mismatched, ignored=ignored)
    return attempt_of(checkpoint, model_for, own)[2]
