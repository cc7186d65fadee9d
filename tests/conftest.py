"""What tests of several folders start from."""

import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)")
    with driver.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=program)
        yield browser
        browser.close()
