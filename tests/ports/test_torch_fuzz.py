"""Thousands of damaged files: each is read, or ends in one short line; soon, and without memory."""

import pickletools
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pretrained_ports.checkpoints import CheckpointError, read
from tests.ports.torch_bytes import (
    SIX,
    WRITERS,
    Call,
    Global,
    operations,
    pickled,
    storage,
    tensor,
)

GOLDEN = Path(__file__).parent / "golden"
PART = storage("0", "FloatStorage", 6, ("view", 2, 3))
PICKLES = [
    pickled({"w": tensor(), "v": tensor((2,), (1,), 1, PART)}),
    pickled({"state_dict": {"module.w": tensor()}, "epoch": 1, "args": [None, 0.5, True, ("a",)]}),
    pickled(Call(Global("collections", "OrderedDict"), ([["w", tensor()], ["b", tensor()]],))),
    pickled(
        {
            "w": Call(Global("torch._utils", "_rebuild_parameter"), (tensor(), True, {})),
            "v": Call(
                Global("torch._utils", "_rebuild_tensor_v3"),
                (storage(), 1, (2,), (1,), False, None, Global("torch", "uint16")),
            ),
        }
    ),
]
NUMBERS = [0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
OPERATIONS = [operation.code.encode("latin-1") for operation in pickletools.opcodes]
VALUES = [
    *(operations(value) for value in ([], {}, (), None, -1, 2**62, 2**64, "w", ("a", "b"), 1.5)),
    *(operations(value) for value in (tensor(), storage(), PART, Global("torch", "float32"))),
    operations(Global("collections", "OrderedDict")),
    *(
        b"q\x00h\x00",
        b"h\x00",
        b"h\x01",
        b"(",
        b"t",
        b"\x85",
        b"R",
        b"Q",
        b"b",
        b"s",
        b"u",
        b"\x81",
    ),
]


def mutated(data, rng):
    """Bytes with one to four changes, of which some know what a pickle is made of."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        start = int(rng.integers(len(data) + 1))
        stop = start + int(rng.choice([0, 1, 1, 2, 4, 8, 30]))
        match rng.integers(8):
            case 0:
                new = bytes(byte ^ (1 << int(rng.integers(8))) for byte in data[start:stop])
            case 1:
                new = rng.bytes(stop - start)
            case 2:
                number, width = int(rng.choice(len(NUMBERS))), int(rng.choice([1, 2, 4, 8]))
                new = (NUMBERS[number] % 256**width).to_bytes(width, "little")
                stop = start + width
            case 3:
                new = b""
            case 4:
                new = data[start:stop] * int(rng.integers(2, 5))
            case 5:
                new = OPERATIONS[rng.integers(len(OPERATIONS))]
            case 6:
                new, stop = VALUES[rng.integers(len(VALUES))], start
            case _:
                other = int(rng.integers(len(data) + 1))
                new = data[other : other + 30]
        data[start:stop] = new
    return bytes(data) if rng.random() < 0.95 else bytes(data[: rng.integers(len(data) + 1)])


def damaged(file, form, rng):
    """Writes a file: a changed pickle in an intact frame, or anything changed anywhere."""
    if rng.random() < 0.5:
        code = mutated(PICKLES[rng.integers(len(PICKLES))], rng)
        return WRITERS[form](file, code, {"0": SIX})
    if rng.random() < 0.5:
        WRITERS[form](file, PICKLES[rng.integers(len(PICKLES))], {"0": SIX})
        whole = file.read_bytes()
    else:
        whole = (GOLDEN / f"torch-2.13.0-{form}.pth").read_bytes()
    file.write_bytes(mutated(whole, rng))
    return file


def outcome(file):
    """How reading ends; every element of what is read is touched."""
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.perf_counter()
    try:
        tensors = read(file).tensors
        ends = "read"
    except CheckpointError as error:
        tensors, message = {}, str(error).removeprefix(str(file))
        ends = "refused" if "is refused" in message else "damaged"
        assert message.isprintable()
        assert len(message) < 300
    assert time.perf_counter() - start < 5
    assert tracemalloc.get_traced_memory()[1] - before < 2**22
    for array in tensors.values():
        array.tobytes()
    return ends


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_files(tmp_path, unchecked, form, count):
    outcomes = dict.fromkeys(("read", "refused", "damaged"), 0)
    tracemalloc.start()
    try:
        for seed in range(count):
            file = damaged(tmp_path / "a.pth", form, np.random.default_rng(seed))
            try:
                outcomes[outcome(file)] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error!r}") from error
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > count / 50, outcomes  # enough of each to mean something
