"""PyTorch's files are read without it: both formats, of every age."""

import struct
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from pretrained_ports.checkpoints import CheckpointError, read
from tests.ports.torch_bytes import (
    WRITERS,
    Call,
    Global,
    Raw,
    directory_entry,
    operations,
    pickled,
    storage,
    tensor,
    write_old,
    write_zip,
)

GOLDEN = sorted((Path(__file__).parent / "golden").glob("torch-*.pth"))
SIX = np.arange(6, dtype="<f4")


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    """Writes a file whose storage "0" holds 0 to 5."""

    def write(content, code=None):
        code = pickled(content) if code is None else code
        return WRITERS[request.param](tmp_path / "a.pth", code, {"0": SIX.tobytes()})

    return write


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_files_that_torch_wrote(file):
    """What `golden/make_torch.py` saves, by the version in the file's name."""
    checkpoint = read(file)
    tensors = checkpoint.tensors
    assert checkpoint.unwrapped == ("state_dict", "module.")
    assert set(checkpoint.ignored) == {"epoch", "best", "args", "state", "kinds"}
    expected = {
        "ramp": SIX.reshape(2, 3),
        "turned": SIX.reshape(2, 3).T,
        "row": SIX[3:],
        "parameter": np.full(2, 0.5, "f4"),
        "double": np.array([0.1]),
        "half": np.array([1.5, -2], "f2"),
        "brain": np.array([1.5, -2], ml_dtypes.bfloat16),
        "complex": np.array([1 + 2j], "c8"),
        "count": np.array(7),
        "flags": np.array([True, False]),
        "bytes": np.array([0, 255], "u1"),
        "none": np.empty((0, 3), "f4"),
    }
    if "torch-2" in file.stem:
        expected["eight"] = np.array([1.5, -2], ml_dtypes.float8_e4m3fn)
        expected["unsigned"] = np.array([65535], "u2")
    assert set(tensors) == set(expected)
    for key, array in expected.items():
        assert tensors[key].dtype == array.dtype, key
        np.testing.assert_array_equal(tensors[key], array, err_msg=key)


def test_there_are_files_of_two_versions_in_both_formats():
    assert len(GOLDEN) == 4


def test_tensors_are_views_of_the_file_that_cannot_be_written(write):
    array = read(write({"w": tensor()})).tensors["w"]
    np.testing.assert_array_equal(array, SIX.reshape(2, 3))
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    np.testing.assert_array_equal(jnp.asarray(array), SIX.reshape(2, 3))  # not aligned when old
    np.testing.assert_array_equal(array.astype("f4"), SIX.reshape(2, 3))


@pytest.mark.parametrize(
    ("size", "stride", "offset", "expected"),
    [
        ((), (), 4, 4),
        ((3, 2), (1, 3), 0, SIX.reshape(2, 3).T),
        ((2,), (3,), 2, [2, 5]),
        ((1, 2), (10**30, 1), 4, [[4, 5]]),  # nothing is stepped over where there is one
        ((3, 2), (0, 1), 1, [[1, 2]] * 3),
        ((2, 0, 3), (0, 3, 1), 0, np.empty((2, 0, 3))),
        ((0,), (1,), 100, []),
    ],
)
def test_sizes_strides_and_offsets(write, size, stride, offset, expected):
    array = read(write({"w": tensor(size, stride, offset)})).tensors["w"]
    assert array.shape == size
    np.testing.assert_array_equal(array, expected)


def test_a_first_version_of_rebuilding_and_pairs_of_python_2(write):
    """As Python 2 and torch 0.1 to 0.3 wrote them: text is bytes, dictionaries are pairs."""
    old = Call(Global("torch._utils", "_rebuild_tensor"), (storage(), 0, (6,), (1,)))
    text = Raw(b"U\x03w\xc3\xa9")  # "wé"
    file = write(Call(Global("collections", "OrderedDict"), ([[text, old]],)))
    np.testing.assert_array_equal(read(file).tensors["wé"], SIX)


def test_storages_that_are_parts_of_others(tmp_path):
    part = storage("0", "FloatStorage", 6, ("view", 2, 3))
    file = write_old(
        tmp_path / "a.th", pickled({"w": tensor((2,), (1,), 1, part)}), {"0": SIX.tobytes()}
    )
    np.testing.assert_array_equal(read(file).tensors["w"], [3, 4])


@pytest.mark.parametrize("kind", ["parameter", "with state", "attributes", "device"])
def test_what_is_around_a_tensor_comes_off(write, kind):
    flat = tensor((6,), (1,))
    around = {
        "parameter": Call(Global("torch._utils", "_rebuild_parameter"), (flat, True, {})),
        "with state": Call(
            Global("torch._utils", "_rebuild_parameter_with_state"), (flat, True, {}, {"a": 1})
        ),
        "attributes": Call(
            Global("torch._tensor", "_rebuild_from_type_v2"),
            (flat.function, Global("torch", "Tensor"), flat.arguments, {"a": 1}),
        ),
        "device": Call(
            Global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
            (flat, Global("torch", "float32"), "xla:0", False),
        ),
    }
    np.testing.assert_array_equal(read(write({"w": around[kind]})).tensors["w"], SIX)


def test_a_storage_without_a_type(tmp_path):
    """A type that has no storage of its own comes with the tensor; offsets are in its elements."""
    untyped, kind = storage("0", "UntypedStorage", 6), Global("torch", "uint16")
    call = Call(
        Global("torch._utils", "_rebuild_tensor_v3"), (untyped, 1, (2,), (1,), False, None, kind)
    )
    data = struct.pack("<3H", 1, 2, 65535)
    for file in (
        write_zip(tmp_path / "a.pth", pickled({"w": call}), {"0": data}),
        write_old(tmp_path / "b.pth", pickled({"w": call}), {"0": data}, itemsize=1),
    ):
        np.testing.assert_array_equal(read(file).tensors["w"], [2, 65535])


def test_protocols_that_name_by_the_stack(write):
    body = operations({"w": tensor((6,), (1,))})
    name = b"ctorch._utils\n_rebuild_tensor_v2\n"
    assert name in body
    stacked = b"\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93"
    code = b"\x80\x04\x95" + struct.pack("<Q", 99) + body.replace(name, stacked) + b"."
    np.testing.assert_array_equal(read(write(None, code=code)).tensors["w"], SIX)


@pytest.mark.parametrize("kind", ["FloatStorage", "BFloat16Storage"])
def test_archives_of_machines_with_the_other_order_of_bytes(tmp_path, kind):
    dtype = {"FloatStorage": np.dtype("f4"), "BFloat16Storage": np.dtype(ml_dtypes.bfloat16)}[kind]
    data = SIX.astype(dtype).byteswap().tobytes()
    code = pickled({"w": tensor((6,), (1,), 0, storage("0", kind))})
    file = write_zip(tmp_path / "a.pt", code, {"0": data}, byteorder="big")
    array = read(file).tensors["w"]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, SIX.astype(dtype))


def test_a_storage_of_no_elements_in_the_other_order_of_bytes(tmp_path):
    code = pickled({"w": tensor((0, 3), (3, 1), 0, storage(count=0))})
    file = write_zip(tmp_path / "a.pt", code, {"0": b""}, byteorder="big")
    assert read(file).tensors["w"].shape == (0, 3)


def test_archives_without_sums(tmp_path):
    """As `torch.serialization.set_crc32_options(False)` writes them."""
    file = write_zip(tmp_path / "a.pt", pickled({"w": tensor()}), {"0": SIX.tobytes()})
    for name in ("archive/data.pkl", "archive/data/0"):
        directory_entry(file, name, sum=0)
    np.testing.assert_array_equal(read(file).tensors["w"], SIX.reshape(2, 3))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_rebuild_sparse_tensor", "sparse"),
        ("_rebuild_qtensor", "quantised"),
        ("_rebuild_nested_tensor", "nested"),
        ("_rebuild_meta_tensor_no_storage", "without elements"),
    ],
)
def test_tensors_that_have_no_array_are_named(write, name, kind):
    other = Call(Global("torch._utils", name), (1, 2))
    with pytest.raises(CheckpointError, match=f"cannot read tensor v: it is {kind}; torch can"):
        read(write({"w": tensor(), "v": other}))
    beside = read(write({"state_dict": {"w": tensor()}, "optimizer": {"v": other}}))
    assert list(beside.tensors) == ["w"]


def test_programs_are_told_from_checkpoints(tmp_path):
    file = write_zip(tmp_path / "a.pt", pickled({"w": 1}), {}, **{"constants.pkl": b""})
    with pytest.raises(CheckpointError, match=r"is a TorchScript program, .* its state_dict\(\)"):
        read(file)
