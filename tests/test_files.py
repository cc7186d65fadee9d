"""Files are written whole, in the place that was named and in no other."""

import numpy as np
from etils import epath

from fam_jax.io import files


def test_a_link_under_the_temporary_name_is_not_written_through(tmp_path):
    """Of pathlib and of etils, which a store's table is written by."""
    for i, folder in enumerate((tmp_path, epath.Path(tmp_path))):
        other = tmp_path / f"other-{i}"
        other.write_text("mine")
        (tmp_path / files.part_name(f"new-{i}")).symlink_to(other)
        with files.whole(folder / f"new-{i}") as part:
            part.write_text("theirs")
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
