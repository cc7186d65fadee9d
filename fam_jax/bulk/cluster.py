"""Several processes, one job: joining them, doing something once, waiting for each other."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_TEXT = 400
_LOST = (
    "error: this process was ended before the job was done, by a signal or because another "
    "process of the job was lost; what is written stays: run the same command again on every host"
)
# When a host is lost, jax's runtime ends the processes of the others where no Python code can say
# anything: a second process, which sees the pipe close, says it.
_LAST_WORDS = "import sys; sys.stdin.read() or sys.stderr.write(sys.argv[1] + chr(10))"


@contextmanager
def last_words() -> Iterator[None]:
    """One line says what to do, should this process be ended inside the block from outside."""
    command = [sys.executable, "-S", "-c", _LAST_WORDS, _LOST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as speaker:
        try:
            yield
        finally:
            speaker.communicate(b"done")


def join(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Join the other processes of the job, before anything else is computed.

    On Cloud TPU, GKE, SLURM and under Open MPI jax finds the others by itself.

    Raises:
        ValueError: one line: the others could not be found.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"--distributed: {' '.join(str(error).split())}; where jax does not find the other "
            "processes by itself, give --coordinator HOST:PORT, --processes and --process"
        ) from None


def first(action: Callable[[], Any], like: np.ndarray | None = None) -> Any:
    """What `action` gives in the first process, in all of them; its error, too.

    Args:
        action: done by the first process only.
        like: shape and type of what it gives; None if that is of no interest.
    """
    if jax.process_count() == 1:
        return action()
    wanted, like = like is not None, np.zeros(0, np.uint8) if like is None else like
    found, text, error = like, np.zeros(_TEXT, np.uint8), None
    if jax.process_index() == 0:
        try:
            made = action()
            found = made if wanted else like
        except Exception as raised:  # the others must not wait for what will not come
            error = raised
            data = str(raised).encode()[:_TEXT]
            text[: len(data)] = np.frombuffer(data, np.uint8)
    found, text = multihost_utils.broadcast_one_to_all((found, text))
    if error is not None:
        raise error
    if text.any():
        raise OSError(bytes(text).rstrip(b"\0").decode(errors="replace"))
    return np.asarray(found)


def meet(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
