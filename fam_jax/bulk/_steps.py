"""The loop of every job: inputs ahead, devices busy, results written meanwhile."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fam_jax.bulk._pictures import StepInputs
from fam_jax.bulk._programs import DeviceProgram
from fam_jax.bulk._zarr import Group, StoreError, encode_text
from fam_jax.store import INVALID, VALID


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


# (chunk, its part of `StepInputs.host`, the device's results) -> the group's arrays
Collect = Callable[[int, Any, dict[str, np.ndarray]], Mapping[str, np.ndarray]]


def run_steps(
    phase: str,
    rows: int,
    group: Group,
    chunks: np.ndarray,
    program: DeviceProgram,
    inputs: Callable[[np.ndarray], Iterator[StepInputs]],
    collect: Collect,
    on_step: Callable[[Progress], None] | None = None,
) -> Progress:
    """Compute chunks and write them, one on each device at a time.

    A step's results are fetched when those before it are written: at most one finished step of
    each process is lost when the job is killed.

    Args:
        phase: what the rows are called.
        rows: of the whole job.
        group: where the results go.
        chunks: that are missing in it.
        program: what computes a step.
        inputs: of this process's chunks [steps, devices], in order; -1 stands for none.
        collect: what is written of a chunk.
        on_step: called when a step is written.
    """
    schedule = program.schedule(chunks)
    progress = Progress(phase, rows - _rows(group, chunks), rows)
    began, waited = time.monotonic(), 0.0

    def finish(step: int, host: Sequence[Any], outputs: dict[str, jax.Array]) -> Progress:
        local = schedule[step, program.local].tolist()
        written = {
            chunk: collect(chunk, info, result)
            for chunk, info, result in zip(local, host, program.fetch(outputs), strict=True)
            if chunk >= 0
        }
        try:
            group.write(written)
        except StoreError as error:
            raise StoreError(
                f"{error}; what is written stays, and the same command goes on from there"
            ) from None
        new = _rows(group, schedule[step])
        bad = sum(int(np.sum(arrays["status"] == INVALID)) for arrays in written.values())
        after = progress._replace(
            done=progress.done + new,
            invalid=progress.invalid + bad,
            computed=progress.computed + new,
            seconds=time.monotonic() - began,
            waited=waited,
        )
        if on_step:
            on_step(after)
        return after

    pending, steps = None, inputs(schedule[:, program.local])
    for step in range(len(schedule)):
        asked = time.monotonic()
        device, host = next(steps)
        if pending is None or all(x.is_ready() for x in jax.tree.leaves(pending[2])):
            waited += time.monotonic() - asked
        outputs = program(device)
        if pending is not None:
            progress = finish(*pending)
        pending = step, host, outputs
    return progress if pending is None else finish(*pending)


def _rows(group: Group, chunks: np.ndarray) -> int:
    return sum(group.chunk_rows(int(chunk)) for chunk in chunks if chunk >= 0)


def chunk_arrays(
    group: Group, result: Mapping[str, np.ndarray], unread: np.ndarray, reasons: Sequence[str]
) -> dict[str, np.ndarray]:
    """What is written of a chunk: its results, fills where pictures are unread, and the status."""
    names = [name for name in group.columns if name in result]
    arrays = {name: result[name][: len(reasons)].copy() for name in names}
    for name, array in arrays.items():
        array[unread] = group.columns[name].fill
    status = [INVALID if reason else VALID for reason in reasons]
    return arrays | {"reason": encode_text(reasons), "status": np.array(status, np.uint8)}
