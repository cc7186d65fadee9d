"""The command line, `fam-jax`: options in, one-line errors out."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any

import jax
import typer

import fam_jax
from fam_jax._core.brief import message
from fam_jax.apps.app import app_
from fam_jax.apps.convert import convert
from fam_jax.apps.demo import demo
from fam_jax.apps.evaluate import evaluate
from fam_jax.apps.explain import explain
from fam_jax.apps.index import index
from fam_jax.apps.map import map_
from fam_jax.apps.models import models
from fam_jax.apps.output import echo
from fam_jax.apps.redraw import redraw
from fam_jax.apps.report import report
from fam_jax.apps.retrieve import retrieve
from fam_jax.io.pictures import PictureWarning

_NAME = "fam-jax"
_DEBUG = "--debug"
_INTERNAL = "internal error"
_COMMANDS = (explain, redraw, demo, evaluate, convert, models, map_, index, retrieve, report, app_)

app = typer.Typer(
    name=_NAME,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},  # the commands inherit it
    epilog=f"{_DEBUG} after any command shows the traceback of an error.",
)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"fam-jax {fam_jax.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Why does a network find two images alike? Heat-maps for similarities, in JAX."""


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Warnings on stderr, each once and in a line, without the line of the code that gave it."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", PictureWarning)
        told = set[str]()

        def say(text: Warning | str, *where: Any, **more: Any) -> None:
            if (line := message(str(text))) not in told:
                told.add(line)
                echo(f"warning: {line}", err=True)

        warnings.showwarning = say
        yield


def _one_line_errors(command: Callable) -> Callable:
    """What a user can mend ends in one line on stderr and exit code 2."""

    @wraps(command)
    def run(*args, **kwargs):
        try:
            with _one_line_warnings():
                return command(*args, **kwargs)
        except (ValueError, TypeError, OSError, ImportError) as error:
            if _DEBUG in sys.argv:
                raise
            echo(f"error: {message(error)}", err=True)
            raise typer.Exit(2) from None

    return run


for _command in _COMMANDS:
    app.command(_command.__name__.rstrip("_"))(_one_line_errors(_command))


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exits 2 on bad use with one line, never with a traceback."""
    args = [arg for arg in (sys.argv[1:] if args is None else args) if arg != _DEBUG]
    try:
        code = app(args or ["--help"], prog_name=_NAME, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        echo("stopped", err=True)
        code = 130
    except Exception as error:
        if _DEBUG in sys.argv:
            raise
        line = _one_line(error)
        echo(line, err=True)
        code = getattr(error, "exit_code", 1 if line.startswith(_INTERNAL) else 2)
    sys.exit(code or 0)


def _one_line(error: Exception) -> str:
    format_message = getattr(error, "format_message", None)
    if format_message is not None:  # bad use, found by typer itself
        return f"error: {message(format_message()).rstrip('.')}; see {_NAME} --help"
    if without := _no_device():
        return f"error: {without}"
    what = f"{type(error).__name__}: {message(error)[:300]}"
    return f"{_INTERNAL}: {what} ({_DEBUG} shows where)"


def _no_device() -> str:
    """What keeps JAX from computing at all; "" if nothing does."""
    try:
        jax.devices()
    except Exception as error:  # of a plugin: any
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = message(error) if str(error) else "it has none here"
        return f"JAX finds no device for JAX_PLATFORMS={asked!r}: {why}"
    return ""
