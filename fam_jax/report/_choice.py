"""Which pairs of a store a report shows."""

from typing import NamedTuple

import numpy as np

from fam_jax._core.brief import legible
from fam_jax._core.checks import check_choice, check_count
from fam_jax.store import NOT_DONE, VALID, Store

ORDERS = {
    "store": "in store order",
    "highest": "highest scores first",
    "lowest": "lowest scores first",
}


class Choice(NamedTuple):
    """The pairs of a page, in their order, and how many a store holds besides."""

    indices: list[int]
    total: int
    valid: int
    invalid: int
    not_done: int
    invalid_shown: int


def choose(store: Store, limit: int, order: str, partial: bool = True) -> Choice:
    """At most `limit` pairs that are done; by score, those without one come last."""
    check_choice("order", order, ORDERS)
    check_count("limit", limit)
    if len(store) == 0:
        raise ValueError(f"{legible(store.path)} holds no pairs: there is nothing to report")
    status = np.asarray(store.status())
    done = np.flatnonzero(status != NOT_DONE)
    if not done.size:
        raise ValueError(f"none of the {len(store)} pairs of {legible(store.path)} is done yet")
    if not partial and done.size < len(store):
        missing = len(store) - done.size
        raise ValueError(
            f"{legible(store.path)} is unfinished: {missing:,} of its {len(store):,} pairs are "
            "missing; finish it by the command that began it, or show what is there: "
            "--partial"
        )
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
