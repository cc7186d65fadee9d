"""Files whose bytes are not where they say: one line, and never a byte from elsewhere."""

import struct

import numpy as np
import pytest

from pretrained_ports.checkpoints import CheckpointError, read
from tests.ports.torch_bytes import (
    SIX,
    directory_entry,
    pickled,
    storage,
    tensor,
    write_old,
    write_zip,
)

TENSORS = {
    "beyond its storage": ((7,), (1,), 0, None, "reaches beyond its storage"),
    "beyond by its offset": ((2,), (1,), 5, None, "reaches beyond its storage"),
    "beyond by its stride": ((2,), (6,), 0, None, "reaches beyond its storage"),
    "beyond by an overflow": ((2,), (2**62,), 0, None, "reaches beyond its storage"),
    "beyond around 64 bits": ((2,), (2**64,), 0, None, "reaches beyond its storage"),
    "one element in none": ((), (), 0, storage(count=0), "reaches beyond its storage"),
    "a negative stride": ((2,), (-1,), 1, None, "no count"),
    "a negative size": ((-1,), (1,), 0, None, "no count"),
    "a negative offset": ((1,), (1,), -1, None, "no count"),
    "a truth as size": ((True,), (1,), 0, None, "no count"),
    "a fraction as size": ((1.0,), (1,), 0, None, "no count"),
    "more strides than sizes": ((1,), (1, 1), 0, None, "expected 2 items, got 1"),
    "a list as size": ([1], (1,), 0, None, "expected tuple, got list"),
    "too many dimensions": ((1,) * 65, (1,) * 65, 0, None, "no count"),
    "elements without end": ((2**40, 2**40), (0, 0), 0, None, "more elements than any memory"),
    "elements past 64 bits": ((2**32, 2**32, 2**32), (0,) * 3, 0, None, "more elements than any"),
    "nothing of no end": ((0, 2**63), (1, 1), 0, None, "more elements than any memory"),
    "a repeated element": ((2**30,), (0,), 0, None, "would fill too much"),
    "repeated rows": ((2**28, 6), (0, 1), 0, None, "would fill too much"),
    "a storage beyond the file": ((7,), (1,), 0, storage(count=7), "damaged"),
    "a storage without end": ((2**58,), (1,), 0, storage(count=2**58), "damaged"),
    "a storage past 64 bits": ((1,), (1,), 0, storage(count=2**64), "damaged"),
    "wider elements": ((6,), (1,), 0, storage(kind="DoubleStorage"), "damaged"),
    "a storage that is not there": ((6,), (1,), 0, storage("1"), "damaged"),
    "a way out of the archive": ((6,), (1,), 0, storage("../../0"), "damaged"),
    "a part beyond": ((1,), (1,), 0, storage("0", "FloatStorage", 6, ("v", 5, 2)), "a part of"),
    "a part before": ((1,), (1,), 0, storage("0", "FloatStorage", 6, ("v", -1, 2)), "a part of"),
    "beyond a part": ((2,), (1,), 1, storage("0", "FloatStorage", 6, ("v", 0, 2)), "reaches bey"),
    "a part of another form": ((1,), (1,), 0, storage("0", "FloatStorage", 6, ("v",)), "expected"),
    "a part that is none": ((1,), (1,), 0, storage("0", "FloatStorage", 6, "v"), "expected"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_not_in_the_file(around, refused, case):
    """No element is outside its storage and no storage outside its bytes, whatever the numbers."""
    size, stride, offset, of, match = TENSORS[case]
    refused(around(pickled({"w": tensor(size, stride, offset, of)})), match)


def test_a_storage_of_two_kinds(around, refused):
    """Of two types, or lengths, that one storage would have neither is taken."""
    refused(
        around(pickled({"v": tensor(), "w": tensor(of=storage(kind="IntStorage"))})),
        "one storage is described in two ways",
    )


@pytest.mark.parametrize("sizes", [10**6, 2**32 - 2])
def test_an_entry_beyond_the_file(tmp_path, sizes, refused):
    file = write_zip(tmp_path / "a.pth", pickled({"w": tensor()}), {"0": SIX})
    directory_entry(file, "archive/data/0", compressed=sizes, size=sizes)
    refused(file, "an entry of its archive reaches beyond the file")


def test_an_entry_that_says_it_is_larger_than_it_is(tmp_path, refused):
    file = write_zip(tmp_path / "a.pth", pickled({"w": tensor()}), {"0": SIX})
    directory_entry(file, "archive/data/0", size=1000)
    refused(file, "its archive is compressed")


def test_an_entry_that_begins_elsewhere(tmp_path, refused):
    file = write_zip(tmp_path / "a.pth", pickled({"w": tensor()}), {"0": SIX})
    directory_entry(file, "archive/data/0", start=1)
    refused(file, "reaches beyond the file")


def test_entries_that_overlap_are_views_of_the_same_bytes(tmp_path):
    """They cost nothing: the second entry is told to lie where the first one does."""
    code = pickled({"v": tensor(), "w": tensor(of=storage("1"))})
    file = write_zip(tmp_path / "a.pth", code, {"0": SIX, "1": bytes(24)})
    start = file.read_bytes().index(b"archive/data/0") - 30
    directory_entry(file, "archive/data/1", start=start)
    tensors = read(file).tensors
    np.testing.assert_array_equal(tensors["v"], tensors["w"])


@pytest.mark.parametrize(
    "extra", [{"byteorder": "middle"}, {"byteorder": b"\xff"}, {"byteorder": "x" * 2**20}]
)
def test_an_order_of_bytes_that_is_none(tmp_path, extra, refused):
    file = write_zip(tmp_path / "a.pth", pickled({"w": tensor()}), {"0": SIX}, **extra)
    refused(file, "damaged")


@pytest.mark.parametrize("count", [5, 7, -1, 2**62])
def test_an_old_file_whose_storage_has_another_length(tmp_path, count, refused):
    file = write_old(tmp_path / "a.pth", pickled({"w": tensor()}), {"0": SIX})
    data = file.read_bytes()
    file.write_bytes(data[:-32] + struct.pack("<q", count) + SIX)
    refused(file, f"a storage has {count} elements, 6 were to be")


@pytest.mark.parametrize("key", [0, ["0"], ("0",), None])
def test_an_old_file_whose_list_of_storages_is_not_of_text(tmp_path, refused, key):
    """A tuple of tuples would need its hash: time without end, and the machine's stack."""
    file = write_old(tmp_path / "a.pth", pickled({"w": tensor()}), {"0": SIX})
    head, _, rest = file.read_bytes().rpartition(pickled(["0"]))
    file.write_bytes(head + pickled([key]) + rest)
    refused(file, "expected str, got")


@pytest.mark.parametrize("storages", [{}, {"1": SIX}, {"0": SIX, "1": SIX}])
def test_an_old_file_whose_storages_are_others(tmp_path, storages, refused):
    file = write_old(tmp_path / "a.pth", pickled({"w": tensor()}), storages)
    refused(file, "its list of storages is not that of its tensors")


def test_an_old_file_that_begins_otherwise(tmp_path, refused):
    file = write_old(tmp_path / "a.pth", pickled({"w": tensor()}), {"0": SIX}, magic=12)
    refused(file, "it does not begin as PyTorch's files do")


def test_files_that_are_cut_off(around):
    """After each of its bytes."""
    file = around(pickled({"w": tensor()}))
    data = file.read_bytes()
    for length in range(len(data)):
        file.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"damaged|is empty") as caught:
            read(file)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"just text\n" * 20, b"\x80\x02.", b"PK\x03\x04 not really"])
def test_other_files(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.ckpt is not a PyTorch checkpoint, or is dam"):
        read(tmp_path / "a.ckpt")
