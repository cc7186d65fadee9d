"""What a user can mend ends in one line."""

import sys
from collections.abc import Callable
from functools import wraps

import typer

DEBUG = "--debug"


def one_line_errors(command: Callable) -> Callable:
    """What a user can mend ends in one line on stderr and exit code 2."""

    @wraps(command)
    def run(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except (ValueError, TypeError, OSError, ImportError) as error:
            if DEBUG in sys.argv:
                raise
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from None

    return run
