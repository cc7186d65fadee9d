"""A reader of pickles that knows tensors and plain data, and can do nothing else.

It goes through the operations of a pickle by itself: nothing that a file names is imported, called
or made. Names are looked up in a table (`names.py`) whose functions give records and dictionaries.
"""

import pickletools
from collections.abc import Iterator
from typing import Any

from pretrained_ports.checkpoints.names import Name, dictionary_key, known
from pretrained_ports.checkpoints.tensors import (
    Inert,
    Part,
    RefusedError,
    Storage,
    counts,
    of_length,
    of_type,
)

# Of the pickles of a file: they bound memory and time. Ten thousand tensors take 300,000.
_OPERATIONS = 4_000_000


class Unpickler:
    """Reads the pickles of one file.

    Attributes:
        storages: Key -> what the tensors of the pickles lie in.
    """

    def __init__(self):
        self.storages: dict[str, Storage] = {}
        self._left = _OPERATIONS

    def load(self, file: Any) -> Any:
        """The content of a binary file from where it is, with tensors as `Tensor` or `Unread`.

        Raises:
            RefusedError: It holds more than data.
            ValueError, LookupError, TypeError: It is damaged.
        """
        operations: Iterator[tuple[Any, Any, Any]] = pickletools.genops(file)
        stack, outer = [], []
        memo = {}  # by text: a file could choose numbers of which many clash
        for operation, value, _ in operations:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"its pickles take more than {_OPERATIONS} operations")
            match operation.name:
                case "BINPUT" | "LONG_BINPUT":
                    memo[str(value)] = stack[-1]
                case "MEMOIZE":
                    memo[str(len(memo))] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[str(value)])
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                    stack.append(value)
                case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                    stack.append(value)
                case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                    stack.append(value)
                case "BINSTRING" | "SHORT_BINSTRING":  # text of Python 2
                    stack.append(value.encode("latin-1").decode())
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(operation.name == "NEWTRUE")
                case "MARK":
                    outer.append(stack)
                    stack = []
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    length = int(operation.name[-1])
                    stack[-length:] = [of_length(tuple(stack[-length:]), length)]
                case "TUPLE" | "FROZENSET":  # sets are sequences here: nothing is hashed
                    items, stack = stack, outer.pop()
                    stack.append(tuple(items))
                case "EMPTY_LIST" | "EMPTY_SET":
                    stack.append([])
                case "APPEND":
                    item = stack.pop()
                    of_type(stack[-1], list).append(item)
                case "APPENDS" | "ADDITEMS":
                    items, stack = stack, outer.pop()
                    of_type(stack[-1], list).extend(items)
                case "EMPTY_DICT":
                    stack.append({})
                case "SETITEM":
                    key, item = stack.pop(-2), stack.pop()
                    of_type(stack[-1], dict)[dictionary_key(key)] = item
                case "SETITEMS":
                    items, stack = stack, outer.pop()
                    target = of_type(stack[-1], dict)
                    for key, item in zip(items[::2], items[1::2], strict=True):
                        target[dictionary_key(key)] = item
                case "GLOBAL":
                    stack.append(known(value))
                case "STACK_GLOBAL":
                    module, name = of_type(stack.pop(-2), str), of_type(stack.pop(), str)
                    stack.append(known(f"{module} {name}"))
                case "REDUCE" | "NEWOBJ":
                    arguments = of_type(stack.pop(), tuple)
                    stack.append(self._call(stack.pop(), arguments))
                case "BUILD":  # the state that a dictionary or inert data has is left out
                    stack.pop()
                    if type(stack[-1]) not in (dict, Inert):
                        raise RefusedError("its pickle sets the state of what has none")
                case "BINPERSID":
                    stack.append(self._storage(stack.pop()))
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return stack.pop()
                case name:
                    if name == "INST":
                        known(value)
                    raise RefusedError(f"its pickle uses {name}, which no data needs")
        raise ValueError("its pickle has no end")

    def _call(self, name: Any, arguments: tuple) -> Any:
        if type(name) is not Name or name.call is None:
            raise RefusedError("its pickle calls what is not to be called")
        items = (len(item) for item in arguments if type(item) in (list, tuple))
        self._left -= len(arguments) + sum(items)  # copied or looked through by what is called
        return name.call(*arguments)

    def _storage(self, reference: Any) -> Part:
        """What a persistent id refers to, which may only be a storage or a part of one."""
        if not (
            type(reference) is tuple
            and len(reference) in (5, 6)
            and [type(item) for item in reference[:5]] == [str, Name, str, str, int]
            and reference[0] == "storage"
            and reference[1].storage is not None
            and reference[4] >= 0
        ):
            raise RefusedError("its pickle refers to something that is no storage")
        _, kind, key, _, count, *view = reference
        storage = self.storages.setdefault(key, Storage(kind.storage, count))
        if (storage.dtype, storage.count) != (kind.storage, count):
            raise ValueError("one storage is described in two ways")
        if view in ([], [None]):
            return Part(storage, 0, count)
        _, start, length = of_length(of_type(view[0], tuple), 3)
        if not counts(start, length) or start + length > count:
            raise ValueError("a part of a storage reaches beyond it")
        return Part(storage, start, length)
