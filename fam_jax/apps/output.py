"""What a command says: lines of text, or one JSON object, or nothing."""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from fam_jax._core.brief import escaped

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

INCOMPLETE = 3  # exit code: some pictures could not be read, or some rows have no result
_WIDTH = 200  # columns where the output is a file or a pipe


@dataclass(frozen=True)
class Output:
    """Takes what the options --quiet and --json ask for."""

    quiet: bool = False  # no progress and no text
    as_json: bool = False  # no text; the result as JSON

    @property
    def silent(self) -> bool:
        """Whether nothing at all is shown."""
        return self.quiet and not self.as_json

    def say(self, *lines: str) -> None:
        """Show lines of text, whatever names they hold: each is one line."""
        if not (self.quiet or self.as_json):
            for line in lines:
                echo(escaped(line))

    def say_left_out(self, reasons: Mapping[str, str]) -> None:
        """Show which pictures could not be read, and why."""
        self.say(*(f"left out: {reason}" for reason in reasons.values()))

    def show(self, *parts: "RenderableType") -> None:
        """Show tables of `rich`."""
        from rich.console import Console

        if not (self.quiet or self.as_json):
            width = None if sys.stdout.isatty() else _WIDTH
            with to_a_reader():
                Console(width=width, highlight=False).print(*parts, sep="\n")

    def progress(self) -> "Console":
        """Where progress is shown: stderr, or nowhere."""
        from rich.console import Console

        return Console(stderr=True, quiet=self.quiet)

    def result(self, **facts: Any) -> None:
        """Show what the text says as one JSON object."""
        if self.as_json:
            echo(json.dumps(_plain(facts), indent=2, allow_nan=False, default=str))


@contextmanager
def to_a_reader(*, err: bool = False) -> Iterator[None]:
    """Printing, which goes nowhere from where nobody reads on: the work is done all the same."""
    try:
        yield
    except BrokenPipeError:
        name = "stderr" if err else "stdout"
        os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, name).fileno())


def echo(line: str, *, err: bool = False) -> None:
    """Print a line, with escapes for letters that the terminal has not."""
    with to_a_reader(err=err):
        stream = sys.stderr if err else sys.stdout
        encoding = stream.encoding or "utf-8"
        typer.echo(line.encode(encoding, "backslashreplace").decode(encoding), err=err)


def _plain(value: Any) -> Any:
    """The value with null for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
