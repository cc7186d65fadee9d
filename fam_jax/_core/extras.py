"""Packages of the extras: where one is missing, the error says what installs it."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(what: str, extra: str) -> Iterator[None]:
    """Stands around the imports of what an extra brings; `what` is like "the report needs"."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("fam_jax", "pretrained_ports"):
            raise
        raise ModuleNotFoundError(
            f'{what} {package}: pip install "fam-jax[{extra}]" '
            f'(in a clone: pip install ".[{extra}]")',
            name=error.name,
        ) from error
