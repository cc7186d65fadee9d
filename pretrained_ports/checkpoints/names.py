"""The names that a pickled checkpoint may hold, and what stands for each: tensors and marks.

Whatever else a file names is refused. No name is imported, and only functions of this file are
called, with arguments of which they check type and number.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from pretrained_ports.checkpoints.tensors import (
    Inert,
    RefusedError,
    Tensor,
    Unread,
    of_length,
    of_type,
    tensor,
)

_KEY = 10_000  # letters of a key: long ones that are equal cost time to tell apart


class Name(NamedTuple):
    """A name: what calling it gives, or the type of elements that it stands for."""

    text: str
    call: Callable[..., Any] | None = None
    dtype: np.dtype | None = None
    storage: np.dtype | None = None


def known(text: str) -> Name:
    """What stands for "module name"."""
    if text not in NAMES:
        name = text.replace(" ", ".", 1)
        raise RefusedError(f"it holds a Python object, {name}, beside tensors and plain data")
    return NAMES[text]


class _Number(NamedTuple):
    """A number as a key: by its text, since a file can choose numbers of which many clash."""

    text: str

    def __repr__(self) -> str:
        return self.text


def dictionary_key(value: Any) -> Any:
    """A key whose hash a file can neither choose nor make costly: no deep tuples, no numbers."""
    kind = type(value)
    if kind in (int, float, bool):
        return _Number(repr(value))
    texts = value if kind is tuple and len(value) < 16 else (value,)
    if not (all(type(text) is str for text in texts) or kind is bytes):
        raise ValueError(f"a dictionary has a key of type {kind.__name__}")
    if sum(map(len, texts)) > _KEY:
        raise ValueError(f"a dictionary has a key of more than {_KEY} letters")
    return value


def _dictionary(items=()) -> dict:
    """A dictionary, which a file of Python 2 gives as pairs."""
    if type(items) is dict:
        return items
    pairs = [of_length(pair, 2) for pair in items if type(pair) in (list, tuple)]
    return {dictionary_key(key): value for key, value in of_length(pairs, len(items))}


def _size(size=()) -> tuple:
    return of_type(size, tuple)


def _tensor_v1(part, offset, size, stride) -> Tensor:
    return tensor(part, offset, size, stride)


def _tensor_v2(part, offset, size, stride, requires_grad, hooks, metadata=None) -> Tensor | Unread:
    return Unread("conjugated or negated") if metadata else tensor(part, offset, size, stride)


def _tensor_v3(
    part, offset, size, stride, requires_grad, hooks, dtype, metadata=None
) -> Tensor | Unread:
    name = of_type(dtype, Name)
    if metadata or name.dtype is None:
        return Unread(f"of type {name.text}")
    return tensor(part, offset, size, stride, name.dtype)


def _parameter(data, *rest) -> Tensor | Unread:
    return data if type(data) is Unread else of_type(data, Tensor)


def _on_cpu(data, dtype, device, requires_grad) -> Tensor | Unread:
    """What was on a device of another package was saved from the CPU."""
    same = type(data) is Tensor and data.dtype == of_type(dtype, Name).dtype
    return data if same else Unread("of another device")


def _with_attributes(function, kind, arguments, state) -> Tensor | Unread:
    """A tensor that has attributes of its own, which are left out."""
    if not (type(function) is Name and function.text in _REBUILD):
        raise RefusedError("its pickle makes a tensor in an unknown way")
    return _REBUILD[function.text](*of_type(arguments, tuple))


def _always(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def _names(module: str, names: str) -> list[str]:
    return [f"{module} {name}" for name in names.split()]


_REBUILD = {
    "torch._utils _rebuild_tensor": _tensor_v1,
    "torch._utils _rebuild_tensor_v2": _tensor_v2,
    "torch._utils _rebuild_tensor_v3": _tensor_v3,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "torch._utils _rebuild_device_tensor_from_cpu_tensor": _on_cpu,
}
_CALLS = {
    **_REBUILD,
    "torch._tensor _rebuild_from_type_v2": _with_attributes,
    "torch.nn.parameter Parameter": _parameter,
    "torch Size": _size,
    "collections OrderedDict": _dictionary,
    "collections Counter": _dictionary,
}
_UNREAD = {
    "torch._utils _rebuild_sparse_tensor": "sparse",
    "torch._utils _rebuild_qtensor": "quantised",
    "torch._utils _rebuild_nested_tensor": "nested",
    "torch._utils _rebuild_meta_tensor_no_storage": "without elements",
}
_INERT = [
    *_names("builtins", "bytearray bytes complex set"),
    *_names("__builtin__", "bytearray bytes complex set"),  # the same, in protocol 2
    *_names("numpy", "dtype"),
    *_names("numpy.core.multiarray", "scalar"),
    *_names("numpy._core.multiarray", "scalar"),
    *_names("torch", "device"),
    "_codecs encode",
    "argparse Namespace",
    "torch.serialization _get_layout",
]
_NOT_CALLED = [
    *_names("torch", "Tensor complex32 float4_e2m1fn_x2 bits8 bits16 bits1x8 bits2x4 bits4x2"),
    *_names("torch", "qint8 qint32 quint8 quint2x4 quint4x2 per_tensor_affine per_channel_affine"),
    *_names("torch", "per_tensor_symmetric per_channel_symmetric"),
    *_names("torch", "per_channel_affine_float_qparams"),
    *_names("torch.nn.parameter", "Buffer"),
]
_PLAIN = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
_SMALL = "bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"
_DTYPES = {
    **{name: np.dtype(name) for name in f"{_PLAIN} complex64 complex128 bool".split()},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _SMALL.split()},
}
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "QInt8": "int8",
    "QUInt8": "uint8",
    "QInt32": "int32",
    "QUInt2x4": "uint8",
    "QUInt4x2": "uint8",
    "Untyped": "uint8",
}
NAMES = {
    name.text: name
    for name in (
        *(Name(text, call) for text, call in _CALLS.items()),
        *(Name(text, _always(Unread(kind))) for text, kind in _UNREAD.items()),
        *(Name(text, _always(Inert(text))) for text in _INERT),
        *(Name(text) for text in _NOT_CALLED),
        *(Name(f"torch {name}", dtype=dtype) for name, dtype in _DTYPES.items()),
        *(
            Name(f"{module} {name}Storage", storage=_DTYPES[dtype])
            for name, dtype in _STORAGES.items()
            for module in (("torch", "torch.storage") if name == "Untyped" else ("torch",))
        ),
    )
}
