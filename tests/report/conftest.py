from pathlib import Path

import numpy as np
import pytest

from fam_jax import report
from tests.report import stand_in
from tests.report.visit import Visit


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    pytest.importorskip("skimage", reason="the photographs need scikit-image")
    return stand_in.save_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def store(files):
    return stand_in.store_of(files, 12)


@pytest.fixture
def visit(browser):
    """Opens a report's page; whatever went wrong in it fails the test at the end."""
    visits = []

    def open_page(folder, **options):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        visit = Visit(context.new_page())
        visits.append((context, visit))
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.on("requestfailed", lambda request: visit.complaints.append(request.url))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on(
            "console",
            lambda m: m.type in ("error", "warning") and visit.complaints.append(m.text),
        )
        visit.page.goto((folder / "index.html").as_uri(), wait_until="load")
        return visit

    yield open_page
    for context, visit in visits:
        context.close()
        assert visit.complaints == []
        own = ("file://", "data:,")
        assert [url for url in visit.requests if not url.startswith(own)] == []


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory) -> Path:
    """Twelve pairs: one invalid without a score, one picture gone, one with a name of its own."""
    folder = tmp_path_factory.mktemp("few")
    store = stand_in.store_of(files, 12)
    nan = np.full((7, 7), np.nan, np.float32)
    store = store.but(
        5, status=2, reason="no embedding", score=float("nan"), query_map=nan, reference_map=nan
    )
    store = store.but(8, reference="gone.jpg").but(3, id="Café au lait", label="odd one")
    report.write(store, folder)
    return folder
