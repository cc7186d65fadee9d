"""`Leaf[T]`: what a field of a pytree holds, to a reader and to a type checker.

At run time it is Any: between transformations jax puts tracers, shapes, None or its own markers
in the place of arrays, and a check of annotations must let them pass.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    T = TypeVar("T")
    Leaf: TypeAlias = Annotated[T, "leaf"]
else:

    class Leaf:
        """See the module."""

        def __class_getitem__(cls, kind: Any) -> Any:
            """Any, whatever the kind."""
            return Any
