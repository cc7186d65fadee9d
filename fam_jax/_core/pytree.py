"""Classes as pytrees whose structures are equal only if the classes are.

To jax, the structures of two classes of `jax.tree_util.register_dataclass` with the same fields are
equal (0.10 to 0.12), so a compiled program of one may be run for the other: of `dot` for `cosine`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

from jax.tree_util import GetAttrKey, register_pytree_with_keys

from fam_jax._core.brief import one_line

T = TypeVar("T")

OURS: set[type] = set()  # classes whose structures can be told apart


class Static:
    """A value for a pytree's static part, which must be hashable whatever the value is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        try:
            return self.value is other.value or bool(self.value == other.value)
        except (ValueError, TypeError):  # an array inside has no single truth
            return False

    def __hash__(self) -> int:
        return hash(Static)


def register_dataclass(
    cls: type[T], data_fields: Sequence[str], meta_fields: Sequence[str]
) -> type[T]:
    """Register a dataclass: its data are subtrees, the rest is static and compared by value."""

    def flatten(x: Any) -> tuple[tuple, tuple]:
        data = tuple(getattr(x, name) for name in data_fields)
        return data, tuple(getattr(x, name) for name in meta_fields)

    def flatten_with_keys(x: Any) -> tuple[tuple, tuple]:
        data, meta = flatten(x)
        keys = map(GetAttrKey, data_fields)
        return tuple(zip(keys, data, strict=True)), meta

    def unflatten(meta: tuple, data: Iterable[Any]) -> T:
        x = object.__new__(cls)  # between transformations a field may be anything
        for name, value in zip((*data_fields, *meta_fields), (*data, *meta), strict=True):
            object.__setattr__(x, name, value)
        return x

    register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    OURS.add(cls)
    return cls


@dataclass_transform(frozen_default=True)
def pytree_dataclass(*meta: str) -> Callable[[type[T]], type[T]]:
    """A frozen dataclass as a pytree: the fields `meta` are static, all others subtrees."""

    def decorate(cls: type[T]) -> type[T]:
        cls.__repr__ = one_line
        kind: Any = dataclass(frozen=True, repr=False)(cls)
        data = [field.name for field in fields(kind) if field.name not in meta]
        return register_dataclass(kind, data, meta)

    return decorate


def classes(structure: Any) -> tuple[type | None, ...]:
    """The classes of all nodes: they tell structures apart that jax takes for equal."""
    node = structure.node_data()
    inside = (kind for child in structure.children() for kind in classes(child))
    return None if node is None else node[0], *inside
