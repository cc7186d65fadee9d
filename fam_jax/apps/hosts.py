"""The processes of one job on several hosts: joining them, and a message if one is lost."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from fam_jax._core.brief import message

_LOST = (
    "error: this process was ended before the job was done, by a signal or because another "
    "process of the job was lost; what is written stays: run the same command again on every host"
)
# When a host is lost, jax's runtime ends the processes of the others where no Python code can
# print anything: a second process, which sees the pipe close, prints it.
_WATCH = "import sys; sys.stdin.read() or sys.stderr.write(sys.argv[1] + chr(10))"


@contextmanager
def message_if_killed() -> Iterator[None]:
    """One line says what to do, should this process be ended inside the block from outside."""
    command = [sys.executable, "-S", "-c", _WATCH, _LOST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            yield
        finally:
            watcher.communicate(b"done")


def join(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Join the job's other processes first of all; on most clusters jax finds them by itself."""
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"--distributed: {message(error)}; where jax does not find the other "
            "processes by itself, give --coordinator HOST:PORT, --processes and --process"
        ) from None
