"""What a report reads, and which of its pairs it shows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from fam_jax._core.checks import check_choice, check_count

NOT_DONE, VALID = 0, 1  # any other status: done, but nothing could be said
ORDERS = {
    "store": "in store order",
    "highest": "highest scores first",
    "lowest": "lowest scores first",
}


@runtime_checkable
class Row(Protocol):
    """One pair of a store.

    Attributes:
        index: its place in the store.
        id: its name.
        label: a class or another remark, or None.
        query: the path of one picture.
        reference: the path of the other.
        score: the similarity; NaN for none.
        status: 0 not done, 1 valid, 2 invalid.
        reason: why it is invalid.
        query_map: a raw map [h, w], or None.
        reference_map: the other's.
        query_box: left, top, right, bottom: the part of the upright picture that the network saw
            and the map covers, in the picture's own pixels; None for all of it.
        reference_box: the other's.
    """

    index: int
    id: str
    label: str | None
    query: str
    reference: str
    score: float
    status: int
    reason: str
    query_map: np.ndarray | None
    reference_map: np.ndarray | None
    query_box: Sequence | None
    reference_box: Sequence | None


@runtime_checkable
class Store(Protocol):
    """Explained pairs: scores and states of all of them, the rest of a row on demand.

    Attributes:
        path: where it lies.
        settings: what was asked, as plain JSON values: model, layer, method, similarity, ...
    """

    path: str
    settings: Mapping[str, Any]

    def __len__(self) -> int: ...

    def scores(self) -> np.ndarray:
        """float32 [n]; NaN for none."""
        ...

    def status(self) -> np.ndarray:
        """uint8 [n]: 0 not done, 1 valid, 2 invalid."""
        ...

    # Any: to a type checker a named tuple is no `Row`, as its attributes cannot be set.
    def rows(self, indices: Sequence[int]) -> Iterable[Any]:
        """The `Row`s at `indices`, in that order."""
        ...


class Choice(NamedTuple):
    """The pairs of a page, and what a store holds besides.

    Attributes:
        indices: the pairs that are shown, in their order.
        total: pairs in the store.
        valid: of these, explained.
        invalid: done, but nothing could be said.
        not_done: still to be explained.
        invalid_shown: how many of `indices` are invalid.
    """

    indices: list[int]
    total: int
    valid: int
    invalid: int
    not_done: int
    invalid_shown: int


def choose(store: Store, limit: int, order: str) -> Choice:
    """At most `limit` pairs that are done; by score, those without one come last.

    Raises:
        ValueError: for an unknown order, a limit below 1, or if no pair is done.
    """
    check_choice("order", order, ORDERS)
    check_count("limit", limit)
    if len(store) == 0:
        raise ValueError(f"{store.path} holds no pairs: there is nothing to report")
    status = np.asarray(store.status())
    done = np.flatnonzero(status != NOT_DONE)
    if not done.size:
        raise ValueError(f"none of the {len(store)} pairs of {store.path} is done yet")
    if order != "store":
        scores = np.asarray(store.scores(), np.float64)[done]
        keys = np.where(np.isfinite(scores), scores if order == "lowest" else -scores, np.inf)
        done = done[np.argsort(keys, kind="stable")]
    shown = done[:limit]
    valid = int(np.count_nonzero(status == VALID))
    return Choice(
        indices=shown.tolist(),
        total=len(store),
        valid=valid,
        invalid=done.size - valid,
        not_done=len(store) - done.size,
        invalid_shown=int(np.count_nonzero(status[shown] != VALID)),
    )
