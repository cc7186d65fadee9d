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


@pytest.fixture
def visit(browser):
    """Opens a folder's page, or an address; what went wrong in it fails the test at the end."""
    from tests.visit import Visit

    visits = []

    def open_page(where, **options):
        address = where if isinstance(where, str) else (where / "index.html").as_uri()
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        visit = Visit(context.new_page())
        visits.append((context, visit))
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.on(
            "requestfailed",
            # Left, by a link or at the end, a page ends what is still on its way: no fault.
            lambda r: r.failure != "net::ERR_ABORTED" and visit.complaints.append(r.url),
        )
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on(
            "console",
            lambda m: m.type in ("error", "warning") and visit.complaints.append(m.text),
        )
        visit.page.goto(address, wait_until="load")
        return visit

    yield open_page
    for context, visit in visits:
        context.close()
        assert visit.complaints == []
        own = ("file://", "data:", "http://127.0.0.1:")
        assert [url for url in visit.requests if not url.startswith(own)] == []
