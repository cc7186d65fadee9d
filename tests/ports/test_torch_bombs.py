"""Small files that would take much memory or time: refused, or read as the little they are."""

import struct
import time
import zipfile

import numpy as np
import pytest

from pretrained_ports.checkpoints import pickled as reader
from pretrained_ports.checkpoints import read
from pretrained_ports.checkpoints.names import dictionary_key
from tests.ports.torch_bytes import (
    SIX,
    Global,
    directory_entry,
    operations,
    pickled,
    storage,
    tensor,
    write_old,
    write_zip,
)

# Both formats hold the same pickles, and one reader reads them.
around = pytest.mark.parametrize(
    "around", ["zip", pytest.param("old", marks=pytest.mark.slow)], indirect=True
)
ORDERED = operations(Global("collections", "OrderedDict"))
BOMBS = {
    # 2^50 items, if anybody counted them
    "a list of lists of lists": b"]" + b"q\x01]q\x02(h\x01h\x01e" * 50,
    "a tuple of tuples of tuples": b")" + b"q\x01h\x01\x86" * 50,
    "a list that holds itself": b"]q\x01h\x01a",
    "a tuple that holds itself": b"]q\x01h\x01\x85q\x02h\x02a",
    "deep lists": b"]" * 50_000 + b"a" * 49_999,
    "deep tuples": b")" + b"\x85" * 50_000,
    "deep dictionaries": b"}" + b"K\x01}" * 20_000 + b"s" * 20_000,
    "deep pairs of ordered dictionaries": (ORDERED + b"(]") * 2_000,
    "marks": b"(" * 50_000,
}


@around
@pytest.mark.parametrize("case", BOMBS)
def test_containers_that_have_no_end(around, refused, case):
    """Nothing follows what a container holds: neither recursion nor the number of paths matters."""
    refused(around(b"\x80\x02" + BOMBS[case] + b".", {}), "holds no dictionary|Error", 32)


@around
def test_a_dictionary_that_holds_itself(around, refused):
    """Under the name of a wrapper: which would be taken off for ever, if nobody counted."""
    code = b"\x80\x02}q\x01X\x0a\x00\x00\x00state_dicth\x01s."
    refused(around(code, {}), "holds no dictionary of tensors")


@around
def test_a_prefix_that_comes_again(around):
    """Prefixes are taken off eight times at most, and what is left is a name like others."""
    (key,) = read(around(pickled({"module." * 20: tensor()}))).tensors
    assert key == "module." * 12


@around
def test_keys_that_are_slow_to_compare(around, refused):
    """Letter by letter with equal ones, and tensors' names with the patterns of every table."""
    refused(around(pickled({"x" * 10_001: 0})), "a key of more than 10000 letters")
    refused(around(pickled({"x" * 501: tensor()})), "a name of 501 letters, 500 may be")
    refused(around(pickled({("x" * 5_001, "y" * 5_000): 0})), "a key of more than 10000 letters")


@around
def test_keys_of_which_each_repeats_a_long_text(around):
    """What a report says of an entry is cut, so that it has no more letters than the file."""
    text = operations("x" * 9_000) + b"q\x01"
    keys = b"".join(b"h\x01" + operations(f"{i}") + b"\x86N" for i in range(5_000))
    code = b"\x80\x02}(X\x01\x00\x00\x00w" + operations(tensor()) + text + b"N" + keys + b"u."
    ignored = read(around(code)).ignored
    assert sum(map(len, ignored)) < 5_001 * 161


@around
def test_numbers_that_clash_as_keys(around):
    """Multiples of one prime have one hash as numbers, and n of them would take n^2 steps."""
    clashing = [i * (2**61 - 1) for i in range(100)]
    assert len({hash(number) for number in clashing}) == 1
    assert len({hash(dictionary_key(number)) for number in clashing}) == 100
    names = dict.fromkeys((*clashing, -1, 0.5, True), 0)
    ignored = read(around(pickled({"w": tensor(), **names}))).ignored
    assert {str(number) for number in names} == ignored.keys()


def clashing_numbers(bits=17):
    """32-bit numbers that a table of 2^bits places looks for in one long row, one after another."""
    size = 2**bits
    row = np.empty(size, np.int64)  # place -> where in the cycle of places it is
    place = 0
    for step in range(size):
        row[place] = step
        place = (5 * place + 1) % size
    room = size * 2 // 3
    numbers = np.argsort(row)[: room // 2]  # half the row, by numbers that are places
    rng = np.random.default_rng(0)
    while len(numbers) < room:
        tried = left = rng.integers(0, 2**32, 2**18)
        place = tried % size
        while left.any():
            left = left >> 5
            place = (5 * place + left + 1) % size
            within = row[place] < room
            tried, left, place = tried[within], left[within], place[within]
        numbers = np.unique(np.append(numbers, tried[row[place] < room // 4]))
    return numbers[:room].tolist()


@around
def test_memo_indices_that_clash(around):
    """As they would in a dictionary by number: here they cost as much as any others."""

    def seconds(indices):
        puts = b"".join(b"r" + struct.pack("<I", index) for index in indices)
        file = around(b"\x80\x02N" + puts + operations({"w": tensor()}) + b".")
        start = time.perf_counter()
        assert list(read(file).tensors) == ["w"]
        return time.perf_counter() - start

    clashing = clashing_numbers()
    assert seconds(clashing) < 5 * seconds(range(len(clashing)))


COPIES = {
    "a list of pairs": (b"](" + b"K\x01K\x01\x86" * 5_000 + b"e", "collections OrderedDict"),
    "arguments": (b"(" + b"N" * 5_000 + b"t", "builtins set"),
}


@around
@pytest.mark.parametrize("case", COPIES)
def test_what_is_copied_again_and_again(around, refused, case, monkeypatch):
    """Six bytes of the file that copy thousands of items count as thousands of operations."""
    monkeypatch.setattr(reader, "_OPERATIONS", 200_000)
    items, name = COPIES[case]
    call = b"h\x02h\x01R" if case == "arguments" else b"h\x02h\x01\x85R"
    names = operations(Global(*name.split())) + b"q\x02"
    code = b"\x80\x02](" + items + b"q\x01" + names + call * 10_000 + b"e."
    refused(around(code), "take more than 200000 operations")


@around
def test_ten_thousand_calls_with_a_megabyte_of_text_keep_none(around, refused):
    text, name = operations("x" * 2**20), operations(Global("_codecs", "encode"))
    code = b"\x80\x02](" + text + b"q\x01" + name + b"q\x02" + b"h\x02h\x01\x85R" * 10_000 + b"e."
    refused(around(code, {}), "holds no dictionary")


@pytest.mark.parametrize("pickles", [1, 3])
def test_more_operations_than_any_checkpoint_needs(tmp_path, refused, monkeypatch, pickles):
    """They are counted over all pickles of a file: of the older format it has five."""
    monkeypatch.setattr(reader, "_OPERATIONS", 10_000)
    file = write_old(tmp_path / "a.pth", b"\x80\x02" + b"}" * 9_990 + b".")
    if pickles == 1:
        write_zip(file, b"\x80\x02" + b"}" * 10_000 + b".")
    refused(file, "its pickles take more than 10000 operations")


@around
@pytest.mark.parametrize("operation", [b"}", b"(", b"]", b")\x85", b"X\x04\0\0\0\xf0\x9f\x98\x80"])
def test_what_an_operation_keeps(around, refused, monkeypatch, operation):
    """At most 128 bytes, so that the 4,000,000 of the limit fit into 512 megabytes."""
    monkeypatch.setattr(reader, "_OPERATIONS", 2**15)
    refused(around(b"\x80\x02" + operation * 2**15 + b"."), "take more than", megabytes=4)


@around
def test_many_names_for_one_tensor(around, refused):
    """Views cost nothing, but whoever copies them needs the memory of all."""
    names = b"".join(operations(f"w{i}") + b"h\x01" for i in range(1000))
    one = operations(tensor((2**20,), (0,))) + b"q\x01"
    code = b"\x80\x02}(X\x01\x00\x00\x00w" + one + names + b"u."
    refused(around(code), "would fill too much")


def test_a_line_without_end(tmp_path, refused):
    """Of the older format, whose pickles stand before the weights: these are not read as a name."""
    (tmp_path / "a.pth").write_bytes(b"\x80\x02c" + b"a" * 2**26)
    refused(tmp_path / "a.pth", "damaged")


def test_a_bomb_in_an_archive(tmp_path, refused):
    """Nothing is decompressed."""
    code = pickled({"w": tensor((2**26,), (1,), 0, storage(count=2**26))})
    file = write_zip(
        tmp_path / "a.pth", code, {"0": bytes(2**28)}, compression=zipfile.ZIP_DEFLATED
    )
    assert file.stat().st_size < 2**20
    refused(file, "its archive is compressed", megabytes=1)


def test_entries_that_are_the_same_bytes(tmp_path, refused):
    """In the other order of bytes each of them would be a copy."""
    count = 2**18
    of = [storage(f"{i:03}", "FloatStorage", count) for i in range(100)]
    code = pickled({str(i): tensor((1,), (1,), 0, one) for i, one in enumerate(of)})
    storages = {"000": bytes(4 * count), **{f"{i:03}": b"" for i in range(1, 100)}}
    file = write_zip(tmp_path / "a.pth", code, storages, byteorder="big")
    start = file.read_bytes().index(b"archive/data/000") - 30
    for i in range(100):
        values = {"compressed": 4 * count, "size": 4 * count, "start": start}
        directory_entry(file, f"archive/data/{i:03}", **values)
    refused(file, "entries of its archive share their bytes", megabytes=2)


def test_a_list_of_entries_without_end(tmp_path, refused):
    """It is refused before it is read: every entry becomes objects of ten times its size."""
    file = write_zip(tmp_path / "a.pth", pickled({"w": tensor()}), {"0": SIX})
    data = file.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    start = data.index(b"PK\x01\x02")
    entry = data[start : data.index(b"PK\x01\x02", start + 1)]
    entries = entry * (2**24 // len(entry) + 1)
    record = bytearray(data[end:])
    struct.pack_into("<II", record, 12, len(entries), start)
    file.write_bytes(data[:start] + entries + record)
    refused(file, "a list of entries that is too long", megabytes=1)
