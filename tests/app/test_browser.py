"""The page in a real browser, served by the command: what is dropped, clicked and typed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.commands import TINY, run

pytest.importorskip("gradio", reason='needs pip install ".[app]"')
pytest.importorskip("etils", reason="needs the bulk extra")
expect = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright").expect

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--image-size", 64)


@pytest.fixture(scope="module")
def served(inputs, tmp_path_factory):
    """The address, the pictures, and what the command said when it was ready."""
    folder = tmp_path_factory.mktemp("app")
    made = run("index", inputs / "some", *TINY, *SMALL, "-o", folder / "index")
    assert made.exit_code == 0, made.output
    line = [sys.executable, "-m", "fam_jax", "app", "--index", folder / "index", "--no-browser"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    options = {"text": True, "env": {**os.environ, "PYTHONPATH": path}}
    # A job in the background ignores it, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        (folder / "errors").open("w") as errors,
        subprocess.Popen(
            [*map(str, line), "--json"], stdout=subprocess.PIPE, stderr=errors, **options
        ) as server,
    ):
        said = ""
        for text in server.stdout:
            said += text
            if text.startswith("}"):
                break
        try:
            yield json.loads(said), inputs / "some"
        finally:
            server.send_signal(signal.SIGINT)
            try:
                code = server.wait(timeout=20)
            finally:
                server.kill()
    assert code == 130
    said = (folder / "errors").read_text().splitlines()
    assert [line for line in said if "/fam_jax/" in line and "upload.py" not in line] == []
    assert said.count("ValueError: an address is no upload") == 1


@pytest.fixture
def page(served, browser, request):
    """A page of its own; it asks nothing of another host, and complains of nothing."""
    told, _ = served
    width = getattr(request, "param", 1200)
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    requests, complaints = [], []

    def open_page():
        page = context.new_page()
        page.on("request", lambda one: requests.append(one.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
        page.goto(told["address"], wait_until="load")
        page.get_by_role("tab", name="Pair").wait_for()
        return page

    page = open_page()
    page.another = open_page
    yield page
    context.close()
    own = (told["address"], "data:", "blob:")
    assert [url for url in requests if not url.startswith(own)] == []
    assert complaints == []


def drop(page, field, *files):
    page.locator(f"#{field} input[type=file]").set_input_files([str(file) for file in files])


def pair_of(page, some, query="a.png", other="b.png"):
    drop(page, "fam-query", some / query)
    drop(page, "fam-other", some / other)
    page.locator("#fam-pair .fam-heat").nth(1).wait_for()


def score(page):
    return float(page.locator("#fam-pair .fam-score b").inner_text())


def choose(page, label, name, tab=0):
    field = page.get_by_label(label, exact=True).nth(tab)
    field.click()
    page.get_by_role("option", name=name, exact=True).click()


def test_a_pair_its_method_its_opacity_and_its_files(page, served, tmp_path):
    _, some = served
    pair_of(page, some)
    assert "tiny, fam: cosine" in page.locator("#fam-pair .fam-score").inner_text()
    first = page.locator("#fam-pair .fam-heat").first.get_attribute("src")
    choose(page, "Method", "decomposition")
    page.get_by_text("tiny, decomposition: cosine").wait_for()
    assert page.locator("#fam-pair .fam-heat").first.get_attribute("src") != first
    opacity = "getComputedStyle(document.querySelectorAll('#fam-pair .fam-heat')[1]).opacity"
    assert page.evaluate(opacity) == "0.65"
    page.get_by_label("Opacity of all maps").fill("20")
    assert page.evaluate(opacity) == "0.2"
    for label, name in (("Raw maps", "maps.npz"), ("manifest", "manifest.json")):
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        download.value.save_as(tmp_path / name)
    with np.load(tmp_path / "maps.npz") as maps:
        assert maps["scores"][0] == pytest.approx(score(page), abs=1e-4)
    about = json.loads((tmp_path / "manifest.json").read_text())
    assert (about["method"], about["query"]["path"]) == ("decomposition", "a.png")


def test_another_network_brings_its_layers_and_a_background_its_method(page, served):
    _, some = served
    pair_of(page, some)
    plain = score(page)
    choose(page, "Layer", "layer2")
    page.wait_for_function(
        "old => document.querySelector('#fam-pair .fam-heat').src !== old",
        arg=page.locator("#fam-pair .fam-heat").first.get_attribute("src"),
    )
    assert score(page) == plain
    page.get_by_text("Background: what makes").click()
    drop(page, "fam-background", some / "more" / "c.png", some / "more" / "d.png")
    page.get_by_text("tiny, contrastive, positive part: cosine margin").wait_for()
    assert score(page) < plain


def test_a_point_shows_what_it_meets(page, served):
    _, some = served
    pair_of(page, some)
    view = page.locator('#fam-pair .fam-view[data-side="query"]')
    view.click(position={"x": 200, "y": 150})
    page.get_by_text("this point's part of the score").wait_for()
    assert page.locator('.fam-view[data-side="query"] .fam-dot').count() == 1
    assert page.locator('.fam-view[data-side="query"] .fam-heat').count() == 0
    assert page.locator('.fam-view[data-side="reference"] .fam-heat').count() == 1
    page.get_by_role("button", name="Both maps again").click()
    page.locator("#fam-pair .fam-heat").nth(1).wait_for()


def test_it_works_by_keyboard_alone(page, served):
    _, some = served
    pair_of(page, some)
    page.locator("#fam-opacity").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#fam-opacity").input_value() == "64"
    page.locator('.fam-view[data-side="reference"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_text("this point's part of the score").wait_for()
    assert page.locator('.fam-view[data-side="reference"] .fam-dot').count() == 1
    page.wait_for_function("document.activeElement?.dataset.side === 'reference'")
    page.get_by_role("tab", name="Pair").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#fam-search").wait_for(timeout=5000)


def test_a_search_shows_the_nearest_with_both_maps(page, served):
    _, some = served
    page.get_by_role("tab", name="Search").click()
    drop(page, "fam-search", some / "a.png")
    cards = page.locator("#fam-hits .fam-card")
    cards.nth(3).wait_for()
    assert cards.count() == 4
    first = cards.first.locator("h3").inner_text()
    assert re.fullmatch(r"1\. a\.png: cosine 1\.0000, margin 0\.\d+", first)
    assert cards.first.locator(".fam-heat").count() == 2


def test_methods_side_by_side_with_deletions(page, served):
    told, some = served
    page.get_by_role("tab", name="Compare").click()
    drop(page, "fam-compare-query", some / "a.png")
    drop(page, "fam-compare-other", some / "b.png")
    for field, name in (("query", "a.png"), ("other", "b.png")):
        # The name in the table of files; while it uploads, it stands there as text.
        page.locator(f"#fam-compare-{field}").get_by_label(name, exact=True).wait_for()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.locator("#fam-curves img").wait_for()
    page.get_by_text("contrastive: give a background", exact=True).wait_for()
    shown = page.locator("#fam-methods .fam-card h3").all_inner_texts()
    assert {"fam", "grad-cam", "random"} < set(shown)
    assert not {"rise", "contrastive"} & set(shown)
    assert set(shown) < set(told["methods"])


def test_a_bad_file_is_told_in_a_line_and_the_page_goes_on(page, served, tmp_path):
    _, some = served
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    pair_of(page, some)
    page.locator("#fam-other").get_by_label(re.compile("Clear|Remove")).first.click()
    drop(page, "fam-other", bad)
    error = page.get_by_role("alert")
    error.wait_for()
    assert error.inner_text() == "bad.png is not a picture that Pillow can read"
    expect(page.locator("#fam-pair .fam-view")).to_have_count(0)
    page.locator("#fam-other").get_by_label(re.compile("Clear|Remove")).first.click()
    drop(page, "fam-other", some / "b.png")
    page.locator("#fam-pair .fam-heat").nth(1).wait_for()
    expect(error).to_have_count(0)


def test_two_tabs_do_not_meet(page, served):
    _, some = served
    other = page.another()
    pair_of(page, some)
    pair_of(other, some, "more/c.png", "more/d.png")
    names = page.locator("#fam-pair figcaption").all_inner_texts()
    others = other.locator("#fam-pair figcaption").all_inner_texts()
    assert (names, others) == (["a.png", "b.png"], ["c.png", "d.png"])
    for one in (page, other):
        one.locator('.fam-view[data-side="query"]').click()
        one.get_by_text("this point's part of the score").wait_for()
    assert "b.png" in page.locator("#fam-pair figcaption").nth(1).inner_text()
    assert "d.png" in other.locator("#fam-pair figcaption").nth(1).inner_text()


@pytest.mark.parametrize("page", [400], indirect=True)
def test_a_narrow_window_shows_all_of_it(page, served):
    _, some = served
    pair_of(page, some)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= 400
    for view in page.locator("#fam-pair .fam-view").all():
        box = view.bounding_box()
        assert box["x"] >= 0
        assert 250 < box["width"] <= 400 - box["x"]
    page.get_by_role("tab", name="Compare").click()
    assert page.evaluate(wide) <= 400


def test_a_request_cannot_name_a_file_of_its_own(served):
    """Neither a path of this machine nor an address elsewhere reaches a reader."""
    told, some = served
    config = json.load(urllib.request.urlopen(f"{told['address']}config"))
    asks = [d for d in config["dependencies"] if d["api_name"] == "find"]
    for path in (str(some / "a.png"), "/etc/passwd", "http://127.0.0.1:9/a.png"):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        answer = ask(told["address"], asks[0], [file, "default", 5])
        assert "fam-card" not in answer
        assert "error" in answer.lower()


def ask(address, dependency, data):
    """What the server says at the end to a request of one's own."""
    body = {"data": data, "fn_index": dependency["id"], "session_hash": f"mine{time.time()}"}
    headers = {"Content-Type": "application/json"}
    join = urllib.request.Request(
        f"{address}gradio_api/queue/join", json.dumps(body).encode(), headers
    )
    try:
        urllib.request.urlopen(join).read()
    except urllib.error.HTTPError as error:
        return f"error {error.code}"
    stream = f"{address}gradio_api/queue/data?session_hash={body['session_hash']}"
    with urllib.request.urlopen(stream, timeout=20) as events:
        for line in events:
            if b"process_completed" in line or b"unexpected_error" in line:
                return line.decode()
    return "error: nothing"
