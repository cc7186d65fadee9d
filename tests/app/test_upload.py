"""What a browser sends is a file that it uploaded, or it is refused."""

import asyncio

import pytest

pytest.importorskip("gradio", reason='needs pip install ".[app]"')

from fam_jax.apps.live import serve, upload
from fam_jax.apps.live.shared import App


def test_an_address_is_not_followed():
    field = upload.upload("Picture", "picture")
    with pytest.raises(ValueError, match="an address is no upload"):
        asyncio.run(field.async_move_resource_to_block_cache("https://example.com/a.png"))


def test_no_other_file_is_read_whatever_a_request_says(tmp_path):
    with serve.folder() as folder:
        app = App(lambda name: None, ["tiny"], folder)
        mine = folder / "1" / "a.png"
        mine.parent.mkdir()
        mine.write_bytes(b"x")
        assert app.path(str(mine)) == mine.resolve()
        theirs = tmp_path / "a.png"
        theirs.write_bytes(b"x")
        link = folder / "link.png"
        link.symlink_to(theirs)
        for path in (theirs, link, folder / "1" / ".." / ".." / "a.png", "/etc/passwd"):
            with pytest.raises(ValueError, match="this file was not uploaded here"):
                app.path(str(path))
    assert not folder.exists()
