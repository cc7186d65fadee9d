"""Files are written whole, in the place that was named and in no other."""

import numpy as np
import pytest
from etils import epath

from fam_jax.io import files


def test_a_link_under_a_temporary_name_is_not_written_through(tmp_path):
    """Of pathlib and of etils, which a store's table is written by; every time another name."""
    for i, folder in enumerate((tmp_path, epath.Path(tmp_path))):
        other = tmp_path / f"other-{i}"
        other.write_text("mine")
        (tmp_path / f".new-{i}.part").symlink_to(other)
        with files.whole(folder / f"new-{i}") as part:
            part.write_text("theirs")
            assert [file.name for file in files.parts(folder, [f"new-{i}"])] == [part.name]
            assert files.parts(folder, ["new"]) == []
        assert (tmp_path / f"new-{i}").read_text() == "theirs"
        assert not (tmp_path / f"new-{i}").is_symlink()
        assert other.read_text() == "mine"


def test_what_ends_badly_leaves_the_older_file(tmp_path):
    files.save_arrays(tmp_path / "a.npz", {"x": np.ones(2)})
    before = (tmp_path / "a.npz").read_bytes()
    try:
        with files.whole(tmp_path / "a.npz") as part:
            part.write_text("half")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == before


def test_a_folder_in_the_place_of_a_file_leaves_all_as_it_was(tmp_path):
    """Nothing of the earlier run goes before all that is new has its place."""
    with files.folder(tmp_path / "out") as stage:
        (stage / "a.png").write_text("old")
        (stage / "z.png").write_text("old")
        files.write_manifest(stage)
    (tmp_path / "out" / "z.png").unlink()
    (tmp_path / "out" / "z.png").mkdir()
    before = sorted(path.name for path in (tmp_path / "out").iterdir())

    def again():
        with files.folder(tmp_path / "out", overwrite=True) as stage:
            (stage / "z.png").write_text("new")
            files.write_manifest(stage)

    with pytest.raises(IsADirectoryError, match=r"z\.png is a folder"):
        again()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    assert (tmp_path / "out" / "a.png").read_text() == "old"


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"cannot write to .*out: Not a directory"):
        files.refuse(tmp_path / "file" / "out", overwrite=True)
    with pytest.raises(FileExistsError, match="is a file; a folder is expected"):
        files.refuse(tmp_path / "file", overwrite=True)
    files.refuse(tmp_path / "new" / "out", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
