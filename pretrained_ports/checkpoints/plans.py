"""Where a dialect wants every key of a checkpoint to go, before there is a model."""

from typing import NamedTuple

import numpy as np

from pretrained_ports.checkpoints.dialects import Dialect
from pretrained_ports.checkpoints.dialects.rules import CLASSIFIER, Rule, oi_to_io
from pretrained_ports.checkpoints.readers import Checkpoint

NUMBER = "one number beside the layers"
LINEAR_HEAD = {"weight": Rule("", "head.0.kernel", oi_to_io), "bias": Rule("", "head.0.bias")}


class Plan(NamedTuple):
    """Where one dialect wants every key to go, before there is a model."""

    dialect: Dialect
    placed: dict[str, tuple[str, np.ndarray]]
    ignored: dict[str, str]
    unmatched: dict[str, str]
    mismatched: dict[str, str]


def make_plan(
    checkpoint: Checkpoint, dialect: Dialect, head: str, *, to_the_end: bool = True
) -> Plan:
    """Where the keys go; up to the first that has no place, if no more is asked."""
    plan = Plan(dialect, {}, {}, {}, {})
    layer = linear_layer(checkpoint, dialect) if head == "keep" else None
    kept = {} if layer is None else {f"{layer}.{leaf}": rule for leaf, rule in LINEAR_HEAD.items()}
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
        elif is_number(key, tensor):
            plan.ignored[key] = NUMBER
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


def is_number(key: str, tensor: np.ndarray) -> bool:
    """Whether it is one number beside the layers: an accuracy, a count of steps."""
    return "." not in key and tensor.size == 1


def plan_of(checkpoint: Checkpoint, dialect: Dialect) -> Plan | None:
    """Where a table puts the keys; None if it has no place, or reason to ignore, for one of them.

    The table is asked once, whatever number of models there are to hold against what it says.
    """
    if not dialect.claims(checkpoint.tensors):
        return None
    plan = make_plan(checkpoint, dialect, "drop", to_the_end=False)
    return None if plan.unmatched else plan
