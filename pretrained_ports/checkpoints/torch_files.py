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
_DIRECTORY = 2**24  # bytes of an archive's list of entries: 200,000 storages


class _Mapped(mmap.mmap):
    """A mapped file whose lines have an end."""

    def readline(self) -> bytes:
        start = self.tell()
        end = self.find(b"\n", start, start + _LINE)
        return self.read(end + 1 - start) if end >= 0 else b""


class _Directory(io.FileIO):
    """A file of which an archive's list of entries is read, and that only if it is short."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _DIRECTORY:
            raise ValueError("its archive has a list of entries that is too long")
        return super().read(size) or b""


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
        with _Directory(path) as file, zipfile.ZipFile(file) as archive:
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
    names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program, not a checkpoint; "
            "save its state_dict() with torch.save where it can be trusted"
        )
    root = "".join(names[:1]).partition("/")[0]
    unpickler = Unpickler()
    content = unpickler.load(io.BytesIO(_place(archive.getinfo(f"{root}/data.pkl"), data)))
    order = sys.byteorder
    if f"{root}/byteorder" in names:
        order = bytes(_place(archive.getinfo(f"{root}/byteorder"), data)[:7]).decode()
    if order not in ("little", "big"):
        raise ValueError("its bytes are in an unknown order")
    storages = unpickler.storages
    for key, storage in storages.items():
        _fill(storage, _place(archive.getinfo(f"{root}/data/{key}"), data))
    if sum(len(storage.data) for storage in storages.values()) > len(data):
        raise ValueError("entries of its archive share their bytes")
    if order != sys.byteorder:
        for storage in storages.values():
            elements = np.ndarray(storage.count, storage.dtype, storage.data)
            storage.data = elements.byteswap().view(np.uint8).data
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
    unpickler = Unpickler()
    if [unpickler.load(data), unpickler.load(data)] != [_MAGIC, _PROTOCOL]:
        raise ValueError("it does not begin as PyTorch's files do")
    unpickler.load(data)  # about the machine that wrote it
    content = unpickler.load(data)
    keys = [of_type(key, str) for key in of_type(unpickler.load(data), list)]
    if sorted(keys) != sorted(unpickler.storages):
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
