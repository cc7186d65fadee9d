"""The two formats of PyTorch's files, read without it: a zip archive, and the older row of pickles.

The file is mapped into memory, and tensors are views of it: nothing is copied.
"""

import io
import mmap
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from pretrained_ports.checkpoints.errors import CheckpointError, one_line
from pretrained_ports.checkpoints.pickled import Unpickler
from pretrained_ports.checkpoints.tensors import RefusedError, Storage, of_type

_HEADER = b"PK\x03\x04"  # of an archive, and of every entry in it
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how the older format begins
_LINE = 2**16  # bytes of a line: a name


class _Mapped(mmap.mmap):
    """A mapped file whose lines have an end."""

    def readline(self) -> bytes:
        start = self.tell()
        return self.read(self.find(b"\n", start, start + _LINE) + 1 - start)


def read_torch(path: Path) -> Any:
    """The content of a file, with every tensor as a `Tensor` or `Unread`.

    Raises:
        CheckpointError: It holds more than data, or is damaged.
    """
    try:
        with path.open("rb") as file:
            data = _Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)
            if data[:4] != _HEADER:
                return _read_pickles(data)
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, data, path)
    except CheckpointError:
        raise
    except RefusedError as error:
        raise CheckpointError(
            f"{path} is refused: {one_line(str(error))}; nothing in it was run"
        ) from error
    except Exception as error:  # bytes from anywhere make the reader fail in any way
        reason = one_line(f"{type(error).__name__}: {error}")
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint, or is damaged ({reason})"
        ) from error


def _read_archive(archive: zipfile.ZipFile, data: mmap.mmap, path: Path) -> Any:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(name.endswith("/constants.pkl") for name in entries):
        raise CheckpointError(
            f"{path} is a TorchScript program, not a checkpoint; "
            "save its state_dict() with torch.save where it can be trusted"
        )
    places = {name: _place(entry, data) for name, entry in entries.items()}
    root = next(iter(entries), "").partition("/")[0]
    unpickler = Unpickler()
    content = unpickler.load(io.BytesIO(archive.read(f"{root}/data.pkl")))
    order = sys.byteorder
    if f"{root}/byteorder" in entries:
        order = archive.read(f"{root}/byteorder").decode()
    for key, storage in unpickler.storages.items():
        _fill(storage, places[f"{root}/data/{key}"])
        if order != sys.byteorder:
            elements = np.frombuffer(storage.data, storage.dtype).byteswap()
            storage.data = elements.view(np.uint8).data
    return content


def _place(entry: zipfile.ZipInfo, data: mmap.mmap) -> memoryview:
    """The bytes of an entry, which PyTorch never compresses."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise ValueError("its archive is compressed, which no PyTorch writes")
    header, name, extra = struct.unpack_from("<4s22xHH", data, max(entry.header_offset, 0))
    start = entry.header_offset + 30 + name + extra
    if header != _HEADER or entry.header_offset < 0 or start + entry.file_size > len(data):
        raise ValueError("an entry of its archive reaches beyond the file")
    return memoryview(data)[start : start + entry.file_size]


def _read_pickles(data: _Mapped) -> Any:
    if [Unpickler().load(data), Unpickler().load(data)] != [_MAGIC, _PROTOCOL]:
        raise ValueError("it does not begin as PyTorch's files do")
    Unpickler().load(data)  # about the machine that wrote it
    unpickler = Unpickler()
    content = unpickler.load(data)
    keys = of_type(Unpickler().load(data), list)
    if set(keys) != set(unpickler.storages):
        raise ValueError("its list of storages is not that of its tensors")
    position = data.tell()
    for key in keys:
        storage = unpickler.storages[key]
        (count,) = struct.unpack_from("<q", data, position)
        if count != storage.count:
            raise ValueError(f"a storage has {count} elements, {storage.count} were to be")
        _fill(storage, memoryview(data)[position + 8 :])
        position += 8 + len(storage.data)
    return content


def _fill(storage: Storage, data: memoryview) -> None:
    length = storage.count * storage.dtype.itemsize
    if length > len(data):
        raise ValueError("a storage reaches beyond its place in the file")
    storage.data = data[:length]
