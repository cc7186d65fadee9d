"""The built site in a real browser: search without a network, no request to another host."""

import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.documents import ROOT

pytest.importorskip("mkdocs", reason='needs pip install ".[docs]"')
pytestmark = pytest.mark.slow


class Quiet(SimpleHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of the site, built as it is published; its notebooks are not run."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", folder]
    environment = {**os.environ, "FAM_JAX_RUN_NOTEBOOKS": "false"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("width", [1280, 400])
def test_the_first_page_leads_on_and_fits(visit, site, width):
    page = visit(site).page
    page.set_viewport_size({"width": width, "height": 800})
    assert page.title().startswith("fam_jax")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("link", name="a pair", exact=True).click()
    page.wait_for_url("**/pair.html")
    assert "pair of pictures" in page.locator("h1").first.inner_text()


def test_search_finds_a_function(visit, site):
    page = visit(site).page
    page.locator("[data-md-component=search-query]").click()
    page.keyboard.type("decomposition")
    found = page.locator(".md-search-result__link[href$='#fam_jax.decomposition']")
    found.wait_for(state="attached")
    assert "api/explains.html" in found.get_attribute("href")


@pytest.mark.parametrize("name", ["api/explains", "methods", "ports", "errors", "changelog"])
def test_pages_ask_no_other_host(visit, site, name):
    page = visit(f"{site}{name}.html").page
    assert page.locator("h1").count() >= 1
