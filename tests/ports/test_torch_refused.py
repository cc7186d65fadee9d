"""A file that asks for more than data is refused in one line, and nothing of it runs."""

import os
import pickle

import pytest

from pretrained_ports.checkpoints import CheckpointError, read
from tests.ports.torch_bytes import (
    Call,
    Global,
    Raw,
    Reference,
    operations,
    pickled,
    storage,
    tensor,
)


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "beside", "deep", "as a key"])
def test_a_call_is_refused_and_does_not_happen(around, tmp_path, place, protocol):
    """Wherever it stands, in every protocol, inside either format or as a bare pickle."""
    trace = tmp_path / "trace"
    bad = Malicious(f"touch {trace}")
    content = {
        "alone": bad,
        "beside": {"epoch": 1, "state": bad},
        "deep": {"state_dict": {"deep": [{"er": (1, bad)}]}},
        "as a key": {bad: 1},
    }[place]
    with pytest.raises(CheckpointError, match=r"is refused: .*; nothing in it was run") as caught:
        read(around(pickle.dumps(content, protocol)))
    if protocol > 1:
        assert "it holds a Python object, posix.system, beside tensors" in str(caught.value)
    plain = tmp_path / "a.pkl"
    plain.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(CheckpointError, match="is refused"):
        read(plain)
    assert not trace.exists()


NAMES = [
    "os system",
    "builtins eval",
    "builtins getattr",
    "builtins __import__",
    "torch.storage _load_from_bytes",
    "torch hub.load",
    "torch Tensor.__class__",
    "torch.nn.parameter Parameter.__init__.__globals__",
    "collections OrderedDict.fromkeys",
    "collections abc.sys.modules",
    "numpy core.multiarray.scalar",
    "numpy.core.multiarray _reconstruct",
    "numpy ndarray",
    "argparse Namespace.__init__",
    "copyreg _reconstructor",
    "torch _utils._rebuild_tensor_v2",
    "pretrained_ports.checkpoints.names known",
    " collections OrderedDict",
    "\x1b[31mred\n x",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_outside_the_table_are_refused(around, refused, name):
    """By every way to name; also chains of attributes, which protocol 4 would follow."""
    module, _, rest = name.rpartition(" ")
    if "\n" not in name:
        refused(
            around(pickled({"w": Global(module, rest)})), "is refused: it holds a Python object"
        )
        refused(around(f"(i{module}\n{rest}\n.".encode()), "is refused: it holds a Python object")
    stacked = b"".join(operations(text) for text in (module, rest)) + b"\x93"
    refused(around(pickled({"w": Raw(stacked)})), "is refused: it holds a Python object")


ORDERED = Global("collections", "OrderedDict")
FILE = operations(ORDERED)
OPERATIONS = {
    "EXT1": (b"\x82\x01", "EXT1"),
    "EXT2": (b"\x83\x01\x00", "EXT2"),
    "EXT4": (b"\x84\x01\x00\x00\x00", "EXT4"),
    "OBJ": (b"(" + FILE + b"o", "OBJ"),
    "INST": (b"(icollections\nOrderedDict\n", "INST"),
    "NEWOBJ_EX": (FILE + b")}\x92", "NEWOBJ_EX"),
    "PERSID": (b"Pstorage\n", "PERSID"),
    "NEXT_BUFFER": (b"\x97", "NEXT_BUFFER"),
    "REDUCE of text": (b"X\x06\x00\x00\x00system)R", "calls what is not"),
    "REDUCE of a dictionary": (b"})R", "calls what is not"),
    "REDUCE of what a call gave": (FILE + b")R)R", "calls what is not"),
    "REDUCE of a type": (operations(Global("torch", "float32")) + b")R", "calls what is not"),
    "REDUCE of a storage": (operations(Global("torch", "FloatStorage")) + b")R", "calls what is"),
    "REDUCE with a list": (FILE + b"]R", "expected tuple, got list"),
    "NEWOBJ of text": (b"X\x01\x00\x00\x00a)\x81", "calls what is not"),
    "BUILD on a list": (b"]}b", "sets the state"),
    "BUILD on a name": (FILE + b"}b", "sets the state"),
    "BUILD on a tensor": (operations(tensor()) + b"}b", "sets the state"),
    "BUILD on a storage": (operations(storage()) + b"}b", "sets the state"),
    "APPEND to a dictionary": (b"}Na", "expected list, got dict"),
    "APPENDS to a tuple": (b")(Ne", "expected list, got tuple"),
    "SETITEM on a list": (b"]NNs", "expected dict, got list"),
    "SETITEMS that do not pair": (b"}(NNNu", "damaged"),
    "a list as a key": (b"}]Ns", "a key of type list"),
    "a deep tuple as a key": (b"})" + b"\x85" * 50 + b"Ns", "a key of type tuple"),
    "BINGET of nothing": (b"h\x07", "damaged"),
    "pops below the mark": (b"N(\x85", "expected 1 items, got 0"),
    "no mark": (b"t", "damaged"),
    "an attribute chain of numbers": (b"K\x01K\x02\x93", "expected str"),
    "LONG4": (b"\x8b\xff\xff\xff\x7f", "damaged"),
    "a negative LONG4": (b"\x8b\xff\xff\xff\xff", "damaged"),
    "BINUNICODE8": (b"\x8d" + b"\xff" * 7 + b"\x7fabc", "damaged"),
    "BINBYTES8": (b"\x8e" + b"\xff" * 7 + b"\x7fabc", "damaged"),
    "BYTEARRAY8": (b"\x96" + b"\xff" * 7 + b"\x7fabc", "damaged"),
    "BINUNICODE": (b"X\xff\xff\xff\xffabc", "damaged"),
    "LONG_BINPUT far out": (b"Nr\xff\xff\xff\xff0", "POP"),
    "a line without end": (b"c" + b"a" * 2**20, "damaged"),
    "text that is none": (b"U\x01\xff", "damaged"),
    "an operation that is none": (b"\xff", "damaged"),
    "a tensor of a tensor": (operations(tensor(of=tensor())), "expected Part"),
    "a tensor of text": (operations(tensor(of="0")), "expected Part"),
    "a tensor by another name": (
        operations(
            Call(Global("torch._tensor", "_rebuild_from_type_v2"), (ORDERED, None, (), None))
        ),
        "makes a tensor in an unknown way",
    ),
    "attributes around attributes": (
        operations(
            Call(
                Global("torch._tensor", "_rebuild_from_type_v2"),
                (Global("torch._tensor", "_rebuild_from_type_v2"), None, (), None),
            )
        ),
        "makes a tensor in an unknown way",
    ),
    "a parameter of text": (
        operations(Call(Global("torch._utils", "_rebuild_parameter"), ("x", True, {}))),
        "expected Tensor",
    ),
    "too few arguments": (
        operations(Call(Global("torch._utils", "_rebuild_tensor_v2"), ())),
        "damaged",
    ),
}


@pytest.mark.parametrize("case", OPERATIONS)
def test_operations_that_no_data_needs(around, refused, case):
    """Calls, states (`__setstate__`), and operations on values of another type."""
    code, match = OPERATIONS[case]
    refused(around(b"\x80\x04}X\x01\x00\x00\x00w" + code + b"s."), match)


REFERENCES = {
    "text": "storage",
    "a number": 0,
    "nothing": None,
    "a list": ["storage", Global("torch", "FloatStorage"), "0", "cpu", 6],
    "a module": ("module", Global("torch", "FloatStorage"), "0", "cpu", 6),
    "too short": ("storage", Global("torch", "FloatStorage"), "0", "cpu"),
    "too long": ("storage", Global("torch", "FloatStorage"), "0", "cpu", 6, None, None),
    "a type that is no storage": ("storage", Global("torch", "float32"), "0", "cpu", 6),
    "another class": ("storage", ORDERED, "0", "cpu", 6),
    "a number as key": ("storage", Global("torch", "FloatStorage"), 0, "cpu", 6),
    "text as count": ("storage", Global("torch", "FloatStorage"), "0", "cpu", "6"),
    "a truth as count": ("storage", Global("torch", "FloatStorage"), "0", "cpu", True),
    "a negative count": ("storage", Global("torch", "FloatStorage"), "0", "cpu", -1),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_persistent_ids_of_another_form(around, refused, case):
    """Nothing but a storage can be referred to, and every part of the reference has its type."""
    refused(
        around(pickled({"w": tensor(of=Reference(REFERENCES[case]))})),
        "is refused: its pickle refers to something that is no storage; nothing in it was run",
    )
