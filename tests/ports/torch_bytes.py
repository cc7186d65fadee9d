"""PyTorch's files written by hand, byte by byte, so that a test can write any."""

import pickle
import struct
import zipfile
from typing import NamedTuple

SIX = struct.pack("<6f", *range(6))


class Raw(NamedTuple):
    """Operations of a pickle, as they are."""

    code: bytes


class Global(NamedTuple):
    """A name."""

    module: str
    name: str


class Call(NamedTuple):
    """What a name gives for arguments."""

    function: object
    arguments: tuple


class Reference(NamedTuple):
    """A persistent id."""

    to: object


def operations(value):
    """The operations of protocol 2 that leave a value on the stack."""
    match value:
        case Raw(code):
            return code
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return operations(function) + operations(arguments) + b"R"
        case Reference(to):
            return operations(to) + b"Q"
        case dict():
            items = b"".join(operations(k) + operations(v) for k, v in value.items())
            return b"}(" + items + b"u"
        case list():
            return b"](" + b"".join(map(operations, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(operations, value)) + b"t"
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    return pickle.dumps(value, protocol=2)[2:-1]  # None, numbers


def pickled(value):
    return b"\x80\x02" + operations(value) + b"."


def storage(key="0", kind="FloatStorage", count=6, *view):
    """A reference to a storage."""
    return Reference(("storage", Global("torch", kind), key, "cpu", count, *view))


def tensor(size=(2, 3), stride=(3, 1), offset=0, of=None):
    """A tensor of a storage."""
    arguments = (storage() if of is None else of, offset, size, stride, False, None)
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def write_zip(file, code, storages=(), compression=zipfile.ZIP_STORED, root="archive", **extra):
    """The format of today, from a pickle's bytes and key -> bytes."""
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", code)
        for name, data in extra.items():
            archive.writestr(f"{root}/{name}", data)
        for key, data in dict(storages).items():
            archive.writestr(f"{root}/data/{key}", data)
    return file


def write_old(file, code, storages=(), itemsize=4, magic=0x1950A86A20F9469CFC6C):
    """The format before torch 1.6."""
    parts = [pickled(magic), pickled(1001), pickled({"little_endian": True}), code]
    parts.append(pickled(list(dict(storages))))
    for data in dict(storages).values():
        parts += [struct.pack("<q", len(data) // itemsize), data]
    file.write_bytes(b"".join(parts))
    return file


WRITERS = {"zip": write_zip, "old": write_old}


def directory_entry(file, name, **values):
    """Writes numbers into what an archive's list of entries says of one."""
    data = bytearray(file.read_bytes())
    record = data.rindex(name.encode()) - 46
    assert data[record : record + 4] == b"PK\x01\x02"
    for field, value in values.items():
        place = {"sum": 16, "compressed": 20, "size": 24, "start": 42}[field]
        struct.pack_into("<I", data, record + place, value)
    file.write_bytes(data)
