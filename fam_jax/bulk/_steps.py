"""The loop of every job: inputs ahead, devices busy, results written meanwhile."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fam_jax.bulk._programs import DeviceProgram
from fam_jax.bulk._zarr import Group, StoreError
from fam_jax.store import INVALID


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


class ChunkSchedule(Sequence):
    """This process's chunks, step by step: one for each of its devices, None when they run out.

    Args:
        chunks: that are to be computed, by all processes.
        program: what computes them.
    """

    def __init__(self, chunks: np.ndarray, program: DeviceProgram) -> None:
        self.chunks, self._local, self._devices = chunks, program.local, program.mesh.size

    def __len__(self) -> int:
        return -(-len(self.chunks) // self._devices)

    def __getitem__(self, step: int) -> list[int | None]:
        chunks = self.of_all_processes(step)
        return [chunks[i] if i < len(chunks) else None for i in self._local]

    def of_all_processes(self, step: int) -> list[int]:
        """The chunks of a step, of all processes."""
        return self.chunks[step * self._devices : (step + 1) * self._devices].tolist()


class ScheduledPictures(Sequence):
    """The pictures of a schedule by number, so many for each chunk; "" where a chunk has fewer.

    Args:
        schedule: the chunks.
        rows: pictures of a chunk.
        paths: a chunk -> its pictures, at most `rows`.
    """

    def __init__(
        self, schedule: ChunkSchedule, rows: int, paths: Callable[[int], Sequence[str]]
    ) -> None:
        self._schedule, self._rows, self._paths = schedule, rows, paths
        self._chunks_a_step = len(schedule[0])

    def __len__(self) -> int:
        return len(self._schedule) * self._chunks_a_step * self._rows

    def __getitem__(self, number: int) -> str:
        place, row = divmod(number, self._rows)
        step, device = divmod(place, self._chunks_a_step)
        chunk = self._schedule[step][device]
        paths = () if chunk is None else self._paths(chunk)
        return paths[row] if row < len(paths) else ""  # None would be left out by grain


class StepInputs(NamedTuple):
    """What a step starts from.

    Attributes:
        device: arrays for the devices of this process, chunk after chunk.
        host: what is kept for the results, for each chunk.
    """

    device: Any
    host: Sequence[Any]


# (chunk, its part of `StepInputs.host`, the device's results) -> the group's arrays
Collect = Callable[[int, Any, dict[str, np.ndarray]], Mapping[str, np.ndarray]]


def run_steps(
    phase: str,
    rows: int,
    group: Group,
    schedule: ChunkSchedule,
    inputs: Iterator[StepInputs],
    program: DeviceProgram,
    collect: Collect,
    on_step: Callable[[Progress], None] | None = None,
) -> Progress:
    """Compute and write every chunk of a schedule.

    A step's results are fetched when those before it are written: at most one finished step of
    each process is lost when the job is killed.

    Args:
        phase: what the rows are called.
        rows: of the whole job.
        group: where the results go.
        schedule: the chunks.
        inputs: of every step, in order.
        program: what computes a step.
        collect: what is written of a chunk.
        on_step: called when a step is written.
    """
    missing = sum(group.chunk_rows(int(chunk)) for chunk in schedule.chunks)
    progress = Progress(phase, rows - missing, rows)
    began, waited = time.monotonic(), 0.0

    def finish(step: int, host: Sequence[Any], outputs: Any) -> Progress:
        results = program.fetch(outputs)
        written = {
            chunk: collect(chunk, info, result)
            for chunk, info, result in zip(schedule[step], host, results, strict=True)
            if chunk is not None
        }
        try:
            group.write(written)
        except StoreError as error:
            raise StoreError(
                f"{error}; what is written stays, and the same command goes on from there"
            ) from None
        new = sum(group.chunk_rows(chunk) for chunk in schedule.of_all_processes(step))
        bad = sum(int(np.sum(arrays["status"] == INVALID)) for arrays in written.values())
        after = Progress(
            phase,
            done=progress.done + new,
            total=rows,
            invalid=progress.invalid + bad,
            computed=progress.computed + new,
            seconds=time.monotonic() - began,
            waited=waited,
        )
        if on_step:
            on_step(after)
        return after

    pending = None
    for step in range(len(schedule)):
        asked = time.monotonic()
        device, host = next(inputs)
        if pending is None or all(x.is_ready() for x in jax.tree.leaves(pending[2])):
            waited += time.monotonic() - asked
        outputs = program(device)
        if pending is not None:
            progress = finish(*pending)
        pending = step, host, outputs
    return progress if pending is None else finish(*pending)
