"""What the benchmarks time by: jobs in turns, medians, tables, the machine."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import jax
from rich import box
from rich.table import Table
from torch_side import absent

# Read when JAX first computes: it would take most of a GPU's memory, and PyTorch may need some.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def in_turns(jobs: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of every job in every round, after one call to warm up; the order rotates."""
    names = list(jobs)
    for name in names:
        jobs[name]()
    seconds = {name: [] for name in names}
    for i in range(rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            jobs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: list[float], others: list[float]) -> str:
    """The median of the ratios within the rounds."""
    return f"{statistics.median(a / b for a, b in zip(seconds, others, strict=True)):.2f} x"


def duration(seconds: list[float]) -> str:
    """The median, in a fitting unit."""
    median = statistics.median(seconds)
    unit, size = next(u for u in (("s", 1), ("ms", 1e-3), ("us", 0)) if median >= u[1])
    return f"{median / (size or 1e-6):.3g} {unit}"


def table(title: str, *columns: str) -> Table:
    out = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for i, column in enumerate(columns):
        out.add_column(column, justify="right" if i else "left", no_wrap=True)
    return out


def ready(fn: Callable, *args) -> Callable:
    """A job that waits for its result."""
    return lambda: jax.block_until_ready(fn(*args))


def machine() -> str:
    """Device, processor count and versions, in one line."""
    device = jax.devices()[0]
    kind = f"{platform.machine()} CPU" if device.platform == "cpu" else device.device_kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = "no torch" if absent("torch") else f"torch {version('torch')}"
    python = f"Python {platform.python_version()}"
    return f"{kind}, {cores} CPU cores, {python}, jax {jax.__version__}, {torch}"
