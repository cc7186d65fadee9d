"""The page in a real browser: controls, keyboard, lazy pictures; no request leaves the folder."""

import pytest

from fam_jax import report
from tests.report import stand_in

pytest.importorskip("jinja2", reason='needs pip install ".[report]"')


def test_the_page_renders_pictures_under_their_maps(visit, folder):
    page = visit(folder).page
    assert page.title().startswith("Why these pairs look alike")
    page.wait_for_function("document.querySelector('.view img').complete")  # it is lazy
    boxes = page.evaluate(
        """() => Array.from(document.querySelector(".view").children, (image) => {
            const {x, y, width, height} = image.getBoundingClientRect();
            return [image.complete && image.naturalWidth > 0, x, y, width, height];
        })"""
    )
    picture, map_ = boxes
    assert picture[0]
    assert map_ == picture
    assert picture[3] > 100
    assert page.get_by_role("status").inner_text() == "12 pairs"


def test_the_slider_changes_every_map_and_a_checkbox_its_own(visit, folder):
    view = visit(folder)
    assert view.opacity() == 0.65
    slider = view.page.get_by_role("slider", name="Map opacity")
    slider.fill("20")
    assert view.opacity() == 0.2
    assert view.page.locator("#opacity-value").inner_text() == "20 %"
    view.page.get_by_role("checkbox", name="Map of pair-0000").uncheck()
    assert view.opacity() == 0
    other = "Number(getComputedStyle(document.querySelectorAll('.map')[2]).opacity)"
    assert view.page.evaluate(other) == 0.2


def test_it_works_by_keyboard_alone(visit, folder):
    view = visit(folder)
    keyboard = view.page.keyboard
    focused = "document.activeElement.id"
    order = []
    for _ in range(12):
        keyboard.press("Tab")
        order.append(view.page.evaluate(focused))
        if order[-1] == "opacity":
            break
    controls = ["text", "validity", "order", "least", "most", "opacity"]
    assert [name for name in order if name] == controls
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert view.page.evaluate(outline) == "solid"
    keyboard.press("ArrowLeft")
    assert view.opacity() == 0.6
    keyboard.press("End")
    assert view.opacity() == 1
    keyboard.press("Tab")
    keyboard.press("Space")  # the first card's own switch
    assert view.opacity() == 0
    assert view.page.evaluate("scrollY") >= 0


def test_the_first_tab_stop_leads_to_the_pairs(visit, folder):
    page = visit(folder).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the pairs"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "opacity"


def test_sorting_sorts_both_ways_with_no_score_last(visit, folder):
    view = visit(folder)
    score = {i: i * 7 % 12 for i in range(12) if i != 5}
    order = view.page.get_by_label("Order")
    order.select_option("highest")
    assert view.shown() == [*sorted(score, key=score.get, reverse=True), 5]
    order.select_option("lowest")
    assert view.shown() == [*sorted(score, key=score.get), 5]
    order.select_option("store")
    assert view.shown() == list(range(12))


def test_filters_filter_and_say_how_many_are_left(visit, folder):
    view = visit(folder)
    page, status = view.page, view.page.get_by_role("status")
    find = page.get_by_label("Find in names, ids and labels")
    find.fill("CAFE\u0301 odd")  # decomposed, another case, two words
    assert view.shown() == [3]
    assert status.inner_text() == "1 of 12 pairs"
    find.fill("<b>")
    assert view.shown() == [i for i in range(12) if i % 8 == 3 or (i * 3 + 1) % 8 == 3]
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("document.getElementById('shown').textContent === '12 pairs'")

    page.get_by_label("Show").select_option("invalid")
    assert view.shown() == [5]
    page.get_by_label("Show").select_option("valid")
    assert 5 not in view.shown()
    page.get_by_label("Show").select_option("")

    page.get_by_label("Lowest score").fill("0.5")
    assert view.shown() == [i for i in range(12) if i != 5 and i * 7 % 12 >= 6]
    page.get_by_label("Highest score").fill("0.6")
    assert view.shown() == [i for i in range(12) if i != 5 and 6 <= i * 7 % 12 <= 7]
    page.get_by_label("Lowest score").fill("0.9")
    assert view.shown() == []
    assert status.inner_text() == "0 of 12 pairs"
    assert page.get_by_text("No pair matches.").is_visible()


def test_without_a_script_all_pairs_and_maps_are_there(visit, folder):
    view = visit(folder, java_script_enabled=False)
    assert view.page.locator(".card").count() == 12
    assert not view.page.get_by_label("Order").is_visible()
    assert view.page.locator(".map").first.is_visible()


@pytest.mark.parametrize("many", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_pairs_load_and_pictures_below_wait(many, visit, files, tmp_path):
    report.write(stand_in.store_of(files, many), tmp_path)
    view = visit(tmp_path)
    assert view.page.locator(".card").count() == many
    view.page.wait_for_timeout(500)
    at_first = {url for url in view.pictures() if "/map-" in url}
    assert 6 <= len(at_first) <= 200
    assert not any(f"map-{many - 1:07}" in url for url in at_first)
    card = f".card[data-index='{many - 1}'] .map"
    last = view.page.locator(card).first
    last.scroll_into_view_if_needed()
    view.page.wait_for_function(f'document.querySelector("{card}").naturalWidth > 0')
    assert len(set(view.pictures())) < many
    took = view.page.evaluate(
        """() => {
            const order = document.getElementById("order"), start = performance.now();
            order.value = "highest";
            order.dispatchEvent(new Event("input", {bubbles: true}));
            document.body.offsetHeight;
            return performance.now() - start;
        }"""
    )
    assert took < 2000  # milliseconds; a tenth of it on a laptop
    assert view.shown()[0] == max(range(many), key=lambda i: i * 7 % many)
