"""What tests of several folders start from."""

import pytest


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with pictures, a table of pairs and weights; only to be read."""
    from tests import commands

    return commands.inputs(tmp_path_factory.mktemp("in"))


@pytest.fixture
def here(inputs, tmp_path, monkeypatch):
    """Commands run beside the inputs' copies-by-name, and write into a folder of their own."""
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
