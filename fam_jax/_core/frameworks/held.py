"""What functions hold beside their arguments: arrays and values in closures, objects, globals.

A function object stays the same while what it holds changes, so it is no key for a compiled
program. `held` finds the rest of the key, by the path that leads there.
"""

import dis
import hashlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from typing import Any
from weakref import ref

import jax
import numpy as np
from jax.tree_util import Partial, keystr

from fam_jax._core.pytree import OURS, Static, classes

Path = tuple[str, ...]

# Compared as they are. What modules and classes lead to is reached by the names a function uses.
_PLAIN = (
    *(bool, int, float, complex, str, bytes, bytearray, range, type(None), np.generic, np.dtype),
    *(type, types.ModuleType, types.BuiltinFunctionType),
)
_CONTAINERS = (Mapping, Sequence, Set)
_LIBRARIES = {"builtins", "jax", "jaxlib", "numpy", *sys.stdlib_module_names} - {"__main__"}
_OURS = __name__.partition(".")[0]  # whose functions are handed what they need
_REBINDS = {"STORE_DEREF", "STORE_GLOBAL", "DELETE_DEREF", "DELETE_GLOBAL"}


def held(roots: Sequence[Any]) -> tuple[dict[Path, jax.Array], dict[Path, Any]]:
    """The jax arrays that callables and other objects hold, and all else they hold, by path.

    Followed are closures, defaults, the globals a function names, attributes and containers, and
    functions and classes of the same package. Names that a function rebinds itself are its notes
    (a counter), not its parameters.
    """
    arrays: dict[Path, jax.Array] = {}
    values: dict[Path, Any] = {}
    followed: dict[int, Any] = {}  # holds the objects, so that no address is used twice
    waiting: list[tuple[Path, Any, str]]
    waiting = [((str(i),), root, _package(root)) for i, root in enumerate(roots)]
    while waiting:
        path, value, home = waiting.pop()
        if isinstance(value, jax.Array):
            arrays[path] = value
        elif isinstance(value, np.ndarray):  # by its content: it may be changed in place
            content = repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes()
            values[path] = value.shape, value.dtype, hashlib.blake2b(content).digest()
        elif isinstance(value, _PLAIN):
            values[path] = type(value), value  # True is no 1.0
        elif type(value) in OURS:  # an encoder, a method: its arrays, and its own equality
            leaves, structure = jax.tree.flatten_with_path(value)
            values[path] = Static((structure, classes(structure)))
            waiting.extend(((*path, keystr(keys)), leaf, home) for keys, leaf in leaves)
        elif id(value) not in followed:
            followed[id(value)] = value
            # Containers are what they hold, which has paths of its own.
            values[path] = type(value) if isinstance(value, _CONTAINERS) else Static(value)
            waiting.extend(((*path, name), child, home) for name, child in _children(value, home))
    return arrays, values


class State:
    """What functions held when they were made into a pytree; equal if one program serves both.

    Which of their arrays a program takes as arguments is known once it was traced: these may
    differ. Others may have become constants, and are compared by identity.
    """

    def __init__(self, arrays: dict[Path, jax.Array], values: dict[Path, Any]) -> None:
        self.arrays = {path: ref(array) for path, array in arrays.items()}
        self.values = values
        self.arguments: set[Path] = set()
        self.outdated = False

    def traced(self, values: dict[Path, Any], arguments: Iterable[Path]) -> None:
        """Note what a trace found: other values than here make a program that serves no other."""
        self.outdated |= self.values != values
        self.arguments.update(arguments)

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        if not isinstance(other, State):
            return NotImplemented
        if self.outdated or other.outdated or self.values != other.values:
            return False
        free = self.arguments | other.arguments
        same = self.arrays.keys() == other.arrays.keys() and all(
            path in free or (array() is not None and array() is other.arrays[path]())
            for path, array in self.arrays.items()
        )
        if same:  # what a trace of one has shown holds for the other, which is not traced then
            self.arguments = other.arguments = free
        return same

    def __hash__(self) -> int:
        return hash(State)


def _package(value: Any) -> str:
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0]


def _children(value: Any, home: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, types.MethodType):
        yield from (("__func__", value.__func__), ("__self__", value.__self__))
    elif isinstance(value, partial | Partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, types.FunctionType):
        if _package(value) not in _LIBRARIES:
            yield from _of_function(value)
            if _package(value) == home != _OURS:
                yield from _globals(value, home)
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", child) for key, child in value.items())
    elif isinstance(value, _CONTAINERS):
        yield from ((f"[{i}]", child) for i, child in enumerate(value))
    elif isinstance(value, types.SimpleNamespace) or _package(type(value)) not in _LIBRARIES:
        yield from _of_object(value, home)


def _of_function(fn: types.FunctionType) -> Iterator[tuple[str, Any]]:
    _, own = _names(fn.__code__)
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        if name not in own:
            with suppress(ValueError):  # not bound yet
                yield name, cell.cell_contents
    yield "__defaults__", fn.__defaults__
    yield "__kwdefaults__", fn.__kwdefaults__
    yield from vars(fn).items()


def _globals(fn: types.FunctionType, home: str) -> Iterator[tuple[str, Any]]:
    names, own = _names(fn.__code__)
    for name in sorted((names & fn.__globals__.keys()) - own):
        value = fn.__globals__[name]
        yield name, value
        if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] == home:
            inside = sorted(names & vars(value).keys())
            yield from ((f"{name}.{n}", vars(value)[n]) for n in inside)
        elif isinstance(value, type) and _package(value) == home:
            members = (member for kind in value.__mro__ for member in _members(kind, home))
            yield from ((path, child) for path, child in members if path.split(".")[-1] in names)


@lru_cache(maxsize=4096)  # code never changes, and disassembling it is what takes the time
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Globals and attributes that a function and those in it name, and what they set outside."""
    codes = [code]
    for part in codes:  # which grows by the functions written inside the part
        codes += [const for const in part.co_consts if isinstance(const, types.CodeType)]
    steps = (step for part in codes for step in dis.get_instructions(part))
    rebound = frozenset(step.argval for step in steps if step.opname in _REBINDS)
    return frozenset(name for part in codes for name in part.co_names), rebound


def _of_object(value: Any, home: str) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        if _package(kind) in _LIBRARIES:
            continue
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield name, getattr(value, name)
        yield from _members(kind, home)


def _members(kind: type, home: str) -> Iterator[tuple[str, Any]]:
    """What a class itself holds; of classes of other packages plain values and arrays alone."""
    for name, member in vars(kind).items():
        if isinstance(member, property):
            member = member.fget
        elif isinstance(member, cached_property):
            member = member.func
        elif isinstance(member, staticmethod | classmethod):
            member = member.__func__
        machinery = name.startswith("__") and not isinstance(member, types.FunctionType)
        plain = isinstance(member, jax.Array | np.ndarray | int | float | str)
        if plain or (_package(kind) == home and not machinery):
            yield f"{kind.__qualname__}.{name}", member
