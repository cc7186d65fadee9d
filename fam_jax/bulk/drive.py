"""The loop of every job: inputs ahead, devices busy, results written meanwhile."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fam_jax.bulk.programs import Spread
from fam_jax.bulk.share import Share
from fam_jax.bulk.store import INVALID, Group, StoreError


class Progress(NamedTuple):
    """How far a job is, after a step of the devices.

    Attributes:
        phase: what the rows are: "pictures" or "pairs".
        done: rows that are written, by all processes.
        total: all rows.
        invalid: of the rows that this process wrote in this run, those without a result.
        computed: rows written by all processes in this run.
        seconds: since the first step of this run.
        waited: of these, at most so many in which the devices waited for their inputs.
    """

    phase: str
    done: int
    total: int
    invalid: int = 0
    computed: int = 0
    seconds: float = 0.0
    waited: float = 0.0


class Inputs(NamedTuple):
    """What a step starts from.

    Attributes:
        device: arrays for the devices of this process, chunk after chunk.
        host: what is kept for the results.
    """

    device: Any
    host: Any = None


Collect = Callable[[int, Any, dict[str, np.ndarray]], Mapping[str, np.ndarray]]


def drive(
    phase: str,
    rows: int,
    group: Group,
    share: Share,
    inputs: Iterator[Inputs],
    spread: Spread,
    collect: Collect,
    on_step: Callable[[Progress], None] | None = None,
) -> Progress:
    """Compute and write every chunk of a share.

    A step's results are fetched when those before it are written: at most one finished step of
    each process is lost when the job is killed.

    Args:
        phase: what the rows are called.
        rows: of the whole job.
        group: where the results go.
        share: the chunks.
        inputs: of every step, in order.
        spread: the program.
        collect: (chunk, its part of `Inputs.host`, the device's results) -> the group's arrays.
        on_step: called when a step is written.
    """
    missing = sum(group.rows(int(chunk)) for chunk in share.todo)
    state = Progress(phase, rows - missing, rows)
    began, waited = time.monotonic(), 0.0

    def finish(step: int, host: Any, outputs: Any) -> Progress:
        written = {
            chunk: collect(chunk, mine, found)
            for chunk, mine, found in zip(share[step], host, spread.fetch(outputs), strict=True)
            if chunk is not None
        }
        try:
            group.write(written)
        except StoreError as error:
            raise StoreError(
                f"{error}; what is written stays, and the same command goes on from there"
            ) from None
        new = sum(group.rows(chunk) for chunk in share.all(step))
        bad = sum(int(np.sum(arrays["status"] == INVALID)) for arrays in written.values())
        found = Progress(
            phase, state.done + new, rows, state.invalid + bad, state.computed + new,
            time.monotonic() - began, waited,
        )  # fmt: skip
        if on_step:
            on_step(found)
        return found

    pending = None
    for step in range(len(share)):
        asked = time.monotonic()
        device, host = next(inputs)
        if pending is None or all(x.is_ready() for x in jax.tree.leaves(pending[2])):
            waited += time.monotonic() - asked
        outputs = spread(device)
        if pending is not None:
            state = finish(*pending)
        pending = step, host, outputs
    return state if pending is None else finish(*pending)
