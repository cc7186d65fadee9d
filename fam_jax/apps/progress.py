"""How a job is getting on: a line on a terminal, a log line a minute elsewhere."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from fam_jax.bulk import Progress

_EVERY = 60.0  # seconds between log lines


def describe(progress: Progress) -> str:
    """Rows per second in this run, time left, rows without a result.

    Examples:
        >>> from fam_jax.bulk import Progress
        >>> describe(Progress("pairs", 600, 1000, invalid=2, computed=200, seconds=100.0))
        '600 of 1,000 pairs, 2.0 pairs/s, 0:03:20 left, 2 invalid'
    """
    rate = progress.computed / progress.seconds if progress.seconds else 0.0
    left = _clock((progress.total - progress.done) / rate) if rate else "?"
    return (
        f"{progress.done:,} of {progress.total:,} {progress.phase}, {rate:.1f} {progress.phase}/s, "
        f"{left} left, {progress.invalid} invalid"
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


class ProgressLine(Bar):
    """Shows every `Progress` it is called with, while it is open.

    Where the console is no terminal, a line is printed once a minute, and at the end of a phase.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        console = console or Console(stderr=True)
        columns = BarColumn(bar_width=30), TextColumn("{task.description}")
        super().__init__(*columns, console=console, disable=not console.is_terminal)
        self._clock, self._last = clock, clock()
        self._phases: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        """Show how far the job is."""
        text = describe(progress)
        if self.console.is_terminal:
            if progress.phase not in self._phases:
                self._phases[progress.phase] = self.add_task(text, total=progress.total)
            self.update(self._phases[progress.phase], completed=progress.done, description=text)
            return
        now = self._clock()
        if progress.done == progress.total or now - self._last >= _EVERY:
            self._last = now
            self.console.print(text, highlight=False, soft_wrap=True)
