"""What the commands for large jobs share; needs the extra `bulk`."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import jax
import numpy as np

from fam_jax import methods
from fam_jax.apps import options
from fam_jax.apps.hosts import message_if_killed
from fam_jax.apps.network import Network
from fam_jax.apps.output import Output
from fam_jax.apps.progress import ProgressLine
from fam_jax.bulk import MapStore
from fam_jax.io import pictures
from fam_jax.store import INVALID

INCOMPLETE = 3  # exit code: some rows have no result
LISTED = 20  # rows without a result that are named


def output(quiet: bool, as_json: bool) -> Output:
    """What the first process says; the others are silent."""
    first = jax.process_index() == 0
    return Output(quiet=quiet or not first, as_json=as_json and first)


def explaining(
    net: Network, method: str, similarity: str, background: list[str] | None, size: int | None
) -> dict[str, Any]:
    """What a job that explains is told of its network and its method, and its store of both."""
    others = pictures.find(background or [])
    about = {**net.settings(), "similarity": similarity, "method_name": method}
    if others:
        about["background"] = len(others)
    chosen = methods.make(method, options.SIMILARITIES[similarity], net.embed(others))
    return {"preprocess": net.preprocess, "method": chosen, "size": size, "about": about}


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
