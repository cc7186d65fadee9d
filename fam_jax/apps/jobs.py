"""What the commands for large jobs share; needs the extra `bulk`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import jax
import numpy as np

from fam_jax import methods
from fam_jax._core.brief import legible
from fam_jax._core.checks import AnyArray
from fam_jax.apps import options
from fam_jax.apps.hosts import message_if_killed
from fam_jax.apps.network import Embedded, Network
from fam_jax.apps.output import Output
from fam_jax.apps.progress import ProgressLine
from fam_jax.bulk import MapStore
from fam_jax.io.pictures import Listing
from fam_jax.store import INVALID, NOT_DONE

LISTED = 20  # rows without a result that are named


def output(quiet: bool, as_json: bool) -> Output:
    """What the first process says; the others are silent."""
    first = jax.process_index() == 0
    return Output(quiet=quiet or not first, as_json=as_json and first)


def explaining(
    net: Network,
    method: str,
    similarity: str,
    bank: AnyArray | None,
    size: int | None,
    **background: Any,
) -> dict[str, Any]:
    """What a job that explains is told of its network and its method, and its store of both.

    The bank are the background's embeddings, and `background` is what the store says of it.
    """
    about = {**net.settings(), "similarity": similarity, "method_name": method, **background}
    chosen = methods.make(method, options.SIMILARITIES[similarity], bank)
    return {"preprocess": net.preprocess, "method": chosen, "size": size, "about": about}


def background_facts(others: Embedded) -> dict[str, Any]:
    """What a store says of background pictures: how many, and which could not be read."""
    facts = {"background": len(others.paths), "background_left_out": list(others.left_out)}
    return {name: fact for name, fact in facts.items() if fact}


def skipped(listings: Iterable[Listing]) -> list[str]:
    """A line for each folder that holds more than pictures."""
    return [str(listing) for listing in listings if listing.skipped]


def unfinished(path: str, status: np.ndarray) -> list[str]:
    """A line where some rows of a store, or of an index, are missing."""
    if not (missing := int(np.sum(status == NOT_DONE))):
        return []
    return [f"{legible(path)} is unfinished: {missing:,} of {status.size:,} are missing"]


@contextmanager
def watched(quiet: bool, distributed: bool = False) -> Iterator[ProgressLine | None]:
    """The progress line, in the first process; and a word at the end should a host be lost."""
    line = ProgressLine() if jax.process_index() == 0 and not quiet else nullcontext()
    with message_if_killed() if distributed else nullcontext(), line as shown:
        yield shown


def reasons(store: MapStore) -> dict[str, str]:
    """Why the first few pairs have no maps, by their names."""
    rows = np.flatnonzero(store.status() == INVALID)[:LISTED]
    return {row.id: row.reason for row in store.rows(rows)}
