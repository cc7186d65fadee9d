"""Packages of the extras: where one is missing, the error says what installs it."""

from collections.abc import Iterator
from contextlib import contextmanager

_OURS = ("fam_jax", "pretrained_ports")


@contextmanager
def needed(what: str, extra: str) -> Iterator[None]:
    """Stands around the imports of what an extra brings.

    Args:
        what: whose imports they are, with the verb: "the report needs".
        extra: the name in pyproject.toml.

    Raises:
        ModuleNotFoundError: in one line, for a module that is missing and not ours.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        raise ModuleNotFoundError(
            f'{what} {package}: pip install "fam-jax[{extra}]" '
            f'(in a clone: pip install ".[{extra}]")',
            name=error.name,
        ) from error
