"""The parts of a file that may be a network: its dictionaries, and what lies behind a prefix.

A part is a `Checkpoint` of its own: some tensors, with what is common to their names taken off, and
all else of the file among what is ignored.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from pretrained_ports.checkpoints.errors import CheckpointError, one_line
from pretrained_ports.checkpoints.readers import Checkpoint, Dictionary, order, part_at

Result = TypeVar("Result")

_DEPTH = 8  # prefixes, one behind the other
LARGEST = 5_000  # tensors of a network; the catalog's have 700
_TRIED = 2_000  # parts of a file


def search(
    checkpoint: Checkpoint,
    test: Callable[[Checkpoint], Result | None],
    smallest: int,
    entry: str | None = None,
) -> list[tuple[Checkpoint, Result]]:
    """The outermost parts that pass a test, the usual one first.

    Where none does, the dictionaries are taken together: a network may be one for every module.

    Args:
        checkpoint: A file.
        test: None for a part that is not it: then what is within that part is tried.
        smallest: Tensors that a part has at least.
        entry: The name of the part to search, in place of the whole file.

    Raises:
        CheckpointError: There is no such entry.
    """
    for whole in filter(None, (checkpoint, _together(checkpoint))):
        if found := _search(starts(whole, entry), test, smallest):
            return found
    return []


def _search(
    first: list[Checkpoint], test: Callable[[Checkpoint], Result | None], smallest: int
) -> list[tuple[Checkpoint, Result]]:
    found, tried = [], 0
    layer = [(start, start) for start in first]
    for depth in range(_DEPTH):
        below = []
        for start, part in layer[: _TRIED - tried]:
            tried += 1
            enough = depth == 0 or len(part.tensors) >= smallest
            result = test(part) if enough and len(part.tensors) <= LARGEST else None
            if result is None:
                below += [(start, inner) for inner in _below(part, smallest)]
            else:
                found.append((_with_rest(start, part), result))
        layer = below
    return sorted(found, key=lambda one: order(one[0].names))


def choose(
    found: list[tuple[Checkpoint, Result]], what: str
) -> tuple[Checkpoint, Result, tuple[str, ...]]:
    """The part to take of those that `search` found, and the names of the others.

    Raises:
        CheckpointError: There are several, and none has a name by which it goes before the others.
    """
    (part, result), *others = found
    names = tuple(entry_name(other) for other, _ in others)
    if others and (order(part.names)[0] or order(part.names) == order(others[0][0].names)):
        listed = ", ".join((entry_name(part), *names)[:12])
        raise CheckpointError(
            f"{part.path} holds {what} {len(found)} times, in {listed}; say which with entry= "
            "(--entry)"
        )
    return part, result, names


def starts(checkpoint: Checkpoint, entry: str | None = None) -> list[Checkpoint]:
    """The dictionaries with tensors in them, the usual one first; or the parts of a name."""
    if entry is not None:
        return _named(checkpoint, entry)
    wholes = _wholes(checkpoint)
    return sorted(wholes, key=lambda part: (part.names != checkpoint.names, order(part.names)))


def entry_name(part: Checkpoint) -> str:
    """What `entry=` calls it: the names of dictionaries and prefixes with dots between."""
    return one_line(".".join(part.names)) or "(the outermost)"


def _named(checkpoint: Checkpoint, entry: str) -> list[Checkpoint]:
    """The outermost parts of a name, or of an ending of one."""
    layer = _wholes(checkpoint, strip=False)
    for _ in range(_DEPTH):
        named = [p for p in layer if f".{'.'.join(p.names)}".endswith(f".{entry.strip('.')}")]
        if named:
            return sorted(named, key=lambda part: order(part.names))
        layer = [part for above in layer for part in _below(above, 1)][:_TRIED]
    wholes = _wholes(checkpoint, strip=False)
    firsts = [part for whole in wholes for part in (whole, *_below(whole, 1))]
    names = dict.fromkeys(entry_name(part) for part in firsts if part.names)
    raise CheckpointError(
        f"{checkpoint.path} has no entry {one_line(entry)!r} with tensors in it; it has: "
        f"{', '.join(list(names)[:12]) or 'none'}"
    )


def _wholes(checkpoint: Checkpoint, *, strip: bool = True) -> list[Checkpoint]:
    """All dictionaries that have tensors; of one that was made without a file, itself."""
    names = [names for names, one in checkpoint.dictionaries.items() if one.tensors]
    return [part_at(checkpoint, way, strip=strip) for way in names[:_TRIED]] or [checkpoint]


def _together(checkpoint: Checkpoint) -> Checkpoint | None:
    """All dictionaries as one, the names on the way to a tensor before its own; None of one."""
    dictionaries = checkpoint.dictionaries
    if sum(bool(one.tensors) for one in dictionaries.values()) < 2:
        return None
    tensors = {
        ".".join((*names, key)): tensor
        for names, one in dictionaries.items()
        for key, tensor in one.tensors.items()
    }
    keys = [
        ".".join((*names, key))
        for names, one in dictionaries.items()
        for key in one.keys
        if (*names, key) not in dictionaries
    ]
    return part_at(replace(checkpoint, dictionaries={(): Dictionary(tensors, tuple(keys))}), ())


def _below(part: Checkpoint, smallest: int) -> list[Checkpoint]:
    """The parts of a part, each behind the first name of its keys."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in part.tensors.items():
        first, _, rest = key.partition(".")
        if rest:
            groups.setdefault(first, {})[rest] = tensor
    return [
        replace(
            part,
            tensors=tensors,
            unwrapped=(*part.unwrapped, f"{first}."),
            names=(*part.names, first),
        )
        for first, tensors in groups.items()
        if len(tensors) >= smallest
    ]


def _with_rest(start: Checkpoint, part: Checkpoint) -> Checkpoint:
    """A part of a dictionary, with what else is there among what is ignored."""
    prefix = "".join(part.unwrapped[len(start.unwrapped) :])
    beside = {key: f"beside {prefix!r}" for key in start.tensors if not key.startswith(prefix)}
    return replace(part, ignored={**part.ignored, **beside})
