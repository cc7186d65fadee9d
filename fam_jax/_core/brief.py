"""What objects say of themselves, and how names from outside and errors are told, in a line.

Objects tell arrays by type and shape, functions by name, and no parameters.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

_LENGTH = 118  # of a line in a terminal or a notebook
_NAME = 200  # letters of a name from outside
# What a terminal acts on, ends a line, turns its direction, or no file of UTF-8 can hold.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_LOCALS = re.compile(r"[\w.<>]*<locals>\.")
_SCHEME = re.compile("([A-Za-z][A-Za-z0-9+.-]+):/")  # pathlib leaves one / of gs://
_PLAIN = bool | int | float | str | bytes | tuple | frozenset | None


def brief(value: Any) -> str:
    """All that tells objects apart but the values of arrays; the same in every process."""
    if hasattr(type(value), "_words"):
        return type(value)._words(value)
    if isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, partial | Partial):
        return called(value.func, value.args, value.keywords)
    if type(value).__repr__ is one_line:
        return called(type(value), (), _telling(value))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {brief(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple | frozenset | set):
        parts = [brief(part) for part in value]
        if isinstance(value, frozenset | set):
            return f"{{{', '.join(sorted(parts))}}}"
        return f"[{', '.join(parts)}]" if isinstance(value, list) else _tuple(parts)
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return " ".join(_ADDRESS.sub("", repr(value)).split())


def called(fn: Any, args: tuple = (), keywords: Mapping[str, Any] | None = None) -> str:
    """A function, or a class, with its arguments as in a call; by its name if it has none."""
    given = [brief(arg) for arg in args]
    given += [f"{name}={brief(value)}" for name, value in (keywords or {}).items()]
    return f"{brief(fn)}({', '.join(given)})" if given or isinstance(fn, type) else brief(fn)


def one_line(self: Any) -> str:
    """A `__repr__` for dataclasses and named tuples: `brief`, cut where a line ends."""
    text = _LOCALS.sub("", brief(self))
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 3]}..."


def escaped(text: str) -> str:
    """The text with escapes in place of control characters."""
    return _CONTROLS.sub(lambda letter: letter[0].encode("unicode_escape").decode(), text)


def legible(name: object) -> str:
    r"""A name from outside (of a file, a folder, a key) in a line: escaped, its middle cut.

    Examples:
        >>> from fam_jax._core.brief import legible
        >>> legible("a\nb.png")
        'a\\nb.png'
    """
    text = escaped(str(name))
    return (
        text if len(text) <= _NAME else f"{text[: _NAME // 3]}...{text[_NAME // 3 + 3 - _NAME :]}"
    )


def address(path: object) -> str:
    """The scheme of what is no path of a file but an address, as "gs"; "" of a path.

    Examples:
        >>> address("gs://bucket/a.jpg"), address("pictures/a.jpg")
        ('gs', '')
    """
    found = _SCHEME.match(str(path))
    return found[1].lower() if found else ""


def message(error: Exception | str) -> str:
    """What an error says, on one line; its type if nothing."""
    return escaped(" ".join(str(error).split())) or type(error).__name__


def _telling(value: Any) -> dict[str, Any]:
    """The fields that are not as their defaults."""
    if is_dataclass(value):
        defaults = {field.name: field.default for field in fields(value)}
    else:
        defaults = {name: value._field_defaults.get(name, MISSING) for name in value._fields}
    parts = {name: getattr(value, name) for name in defaults}
    return {name: x for name, x in parts.items() if not _is_default(x, defaults[name])}


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (
        isinstance(value, _PLAIN) and type(value) is type(default) and value == default
    )


def _tuple(parts: list[str]) -> str:
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"
