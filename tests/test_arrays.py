"""Arrays from .npz files: what a header says that the file does not hold is never allocated."""

import io
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest

from fam_jax.evaluate.results import Results
from fam_jax.io import arrays, files
from fam_jax.training import strip


def entry(header, data=bytes(16), version=b"\x01\x00"):
    """The bytes of a .npy file whose header is this text."""
    text = header.encode() + b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


def shaped(shape, kind="'<f8'"):
    return entry(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}")


def objects():
    out = io.BytesIO()
    np.save(out, np.array([{}], object), allow_pickle=True)
    return out.getvalue()


LIES = {
    "1e12 elements": (shaped("(1000000000000,)"), "which are not the 16 bytes"),
    "a product beyond 64 bits": (shaped("(4294967296, 4294967296, 2)"), "which are not the 16"),
    "negative": (shaped("(-2, -1)"), "which are not the 16 bytes"),
    "one negative": (shaped("(-2,)"), "which are not the 16 bytes"),
    "too few": (shaped("(1,)"), "which are not the 16 bytes"),
    "elements of no bytes": (shaped("(1000000000000,)", "'<V0'"), "which are not the 16 bytes"),
    "none of no bytes": (shaped("(1000000000000,)", "'<V0'")[:-16], "which are not the 0 bytes"),
    "objects": (objects(), "holds objects"),
    "records with objects": (shaped("(2,)", "[('a', '|O')]"), "holds objects"),
    "no shape": (entry("{'descr': '<f8', 'fortran_order': False}"), "is damaged|or damaged"),
    "a call": (entry("__import__('os').abort()"), "or damaged"),
    "brackets": (entry("(" * 9000), "or damaged"),
    "a long header": (entry("'" + "x" * 60000 + "'"), "or damaged"),
    "another version": (entry("{}", version=b"\x09\x00"), "or damaged"),
    "a pickle": (b"\x80\x04N.", "or damaged"),
    "nothing": (b"", "or damaged"),
}


def written(path, content, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("maps.npy", content)
    return path


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_one_line(tmp_path, case):
    content, message = LIES[case]
    file = written(tmp_path / "a.npz", content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            arrays.load(file)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(file)) + 400


def test_a_bomb_is_refused_by_what_its_entries_say(tmp_path):
    """Half a gigabyte of zeros in half a megabyte; and one whose directory says it is small."""
    file = tmp_path / "a.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(8):
            archive.writestr(f"maps{i}.npy", bytes(2**26))
    whole = written(tmp_path / "b.npz", shaped(f"({2**23},)")[:-16] + bytes(2**26)).read_bytes()
    place = whole.rindex(b"PK\x01\x02") + 24  # of the size that an entry of the directory gives
    small = len(shaped("(2,)")).to_bytes(4, "little")
    (tmp_path / "b.npz").write_bytes(whole[:place] + small + whole[place + 4 :])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"would fill 536,870,912 bytes from"):
            arrays.load(file)
        with pytest.raises(ValueError, match=r"b\.npz is no \.npz file of ours, or damaged"):
            arrays.load(tmp_path / "b.npz")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, compression):
    file = written(tmp_path / "a.npz", shaped("(2,)"), compression)
    with pytest.raises(ValueError, match="compressed as numpy does not do it"):
        arrays.load(file)


def test_what_numpy_wrote_is_what_is_read(tmp_path):
    """Of every type and shape that we write, in C's and Fortran's order; and what is missing."""
    given = {
        "maps": np.random.default_rng(0).random((2, 7, 5)).astype("f"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "none": np.zeros((0, 3)),
        "text": np.array("digest"),
        "valid": np.array([True, False]),
        "picture": np.full((600, 600, 3), 7, np.uint8),
    }
    files.save_arrays(tmp_path / "a.npz", given)
    read = arrays.load(tmp_path / "a.npz", ["maps"])
    assert read.keys() == given.keys()
    for name, array in given.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    with pytest.raises(ValueError, match="it has no array scores"):
        arrays.load(tmp_path / "a.npz", ["maps", "scores"])
    with pytest.raises(FileNotFoundError):
        arrays.load(tmp_path / "none.npz")


def test_every_reader_of_such_files(tmp_path):
    """The results of `evaluate` and the strip of a logger; for `redraw` see test_cli_figures."""
    lie = written(tmp_path / "lie.npz", shaped("(1000000000000,)"))
    results = Results(tmp_path / "run", {"seed": 0})
    results.add("fam", ["a"], {"score": np.ones(1)}, {"maps": np.ones((1, 2, 2))})
    assert results.has("fam")
    shutil.copy(lie, tmp_path / "run/methods/fam.npz")
    assert not results.has("fam")
    (tmp_path / "log/maps").mkdir(parents=True)
    shutil.copy(lie, tmp_path / "log/maps/step-00000000.npz")
    with pytest.raises(ValueError, match=r"step-00000000\.npz is no \.npz file of ours"):
        strip(tmp_path / "log")
