"""What the page says, of every kind of pair."""

import numpy as np
import pytest

from fam_jax import report
from tests.report import stand_in
from tests.report.html_check import parse, problems

pytest.importorskip("jinja2", reason='needs pip install ".[report]"')


def page_of(store, folder, **options):
    report.write(store, folder, **options)
    return (folder / "index.html").read_text("utf-8")


def cards(page):
    return [e for e in page.all("li") if e.attributes.get("class") == "card"]


def test_every_pair_has_a_card_with_its_score_label_and_names(store, tmp_path):
    text = page_of(store, tmp_path)
    assert text.startswith("<!DOCTYPE html>")
    page = parse(text)
    shown = cards(page)
    assert [e.attributes["data-index"] for e in shown] == [str(i) for i in range(12)]
    assert page.texts("h3") == [row.id for row in store.made]
    card = " ".join(shown[1].text.split())
    assert card == "pair-0001 score 0.5833 query cats/0.jpg reference cat/2.jpg Map of pair-0001"
    assert "label same" in " ".join(shown[0].text.split())
    assert page.texts("h1") == ["Why these pairs look alike"]
    assert page.texts("title") == ["Why these pairs look alike (tiny, layer3, fam)"]


def test_names_of_files_ids_labels_and_settings_are_text_not_html(store, tmp_path):
    store = store.but(2, id="<script>alert(1)</script>", label='"><img src=x>')
    store.settings["remark"] = "</dd><script>alert(2)</script>"
    text = page_of(store, tmp_path, title="</title><script>alert(3)</script>")
    page = parse(text)
    assert "alert(" not in "".join(page.texts("script"))
    assert not [e for e in page.all("img") if e.attributes["src"] == "x"]
    assert page.texts("h3")[2] == "<script>alert(1)</script>"
    assert page.texts("h1") == ["</title><script>alert(3)</script>"]
    alts = {e.attributes["alt"] for e in page.all("img")}
    assert f"query cats/{stand_in.NASTY}" in alts


def test_names_that_no_page_can_hold_are_escaped(store, tmp_path):
    store = store.but(0, id="a\nb\x00c", label="caf\udce9")
    page = parse(page_of(store, tmp_path))
    assert page.texts("h3")[0] == "a\\nb\\x00c"
    assert "caf\\udce9" in page.texts("bdi")


def test_the_page_is_usable_without_sight(store, tmp_path):
    store = store.but(1, status=2, reason="zero embedding", query_map=None, reference_map=None)
    store = store.but(3, reference="gone.jpg").but(4, query_map=np.ones((7, 7), np.float32))
    assert problems(parse(page_of(store, tmp_path))) == []


def test_a_map_is_described(store, tmp_path):
    heat = np.zeros((8, 8), np.float32)
    heat[0, 6:] = 1, 2
    page = parse(page_of(store.but(0, query_map=heat), tmp_path))
    maps = [e.attributes for e in page.all("img") if e.attributes.get("class") == "map"]
    assert len(maps) == 24
    assert maps[0]["alt"] == (
        "Map on the query: highest at the upper right, at least half as high on 2 % of the picture"
    )


def test_invalid_pairs_stay_with_their_reason(store, tmp_path):
    store = store.but(5, status=2, reason="the embedding is <zero>", score=float("nan"))
    page = parse(page_of(store, tmp_path))
    card = cards(page)[5]
    assert card.attributes["data-valid"] == "invalid"
    assert card.attributes["data-score"] == ""
    assert "Not explained: the embedding is <zero>" in card.text
    assert "no score" in card.text
    assert "1 not explained" in counts(page)
    assert len([e for e in page.all("img") if e.attributes.get("class") == "map"]) == 22


def counts(page):
    pairs = zip(page.texts("dt"), page.texts("dd"), strict=True)
    return {f"{value} {name}" for name, value in pairs}


def test_pairs_that_are_not_done_are_counted_not_shown(store, tmp_path):
    page = parse(page_of(store.but(0, status=0).but(7, status=0), tmp_path))
    assert len(cards(page)) == 10
    assert {"10 explained", "0 not explained", "2 not done yet"} <= counts(page)


def test_a_picture_that_is_gone_or_another_is_told_on_its_card(store, tmp_path):
    store = store.but(1, reference="gone.jpg").but(2, query_box=(0, 0, 5000.5, 200))
    page = parse(page_of(store, tmp_path))
    assert "Picture not shown. no such file: gone.jpg" in cards(page)[1].text
    assert "not the picture that was explained: it has" in cards(page)[2].text
    assert "0, 0 to 5000.5, 200" in cards(page)[2].text
    assert "2 pictures not shown" in counts(page)
    assert len(cards(page)) == 12


@pytest.mark.parametrize(
    ("heat", "note"),
    [
        (None, "no map"),
        (np.full((4, 4), 3, np.float32), "no map: it is the same everywhere"),
        (np.full((4, 4), np.nan, np.float32), "no map: its values are not finite"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_told(heat, note, store, tmp_path):
    page = parse(page_of(store.but(0, query_map=heat, reference_map=heat), tmp_path))
    card = " ".join(cards(page)[0].text.split())
    assert card.endswith(f"reference cats/0.jpg {note}")
    assert "Map of" not in card
    assert not (tmp_path / "map-0000000-query.png").exists()


def test_limit_and_order_choose_the_pairs(store, tmp_path):
    store = store.but(4, status=2, score=float("nan"))
    scores = [row.score for row in store.made]
    for order, sign in (("highest", -1), ("lowest", 1)):
        page = parse(page_of(store, tmp_path / order, limit=3, order=order))
        best = sorted((i for i in range(12) if i != 4), key=lambda i: (sign * scores[i], i))[:3]
        assert [int(e.attributes["data-index"]) for e in cards(page)] == best
        assert f"3 of 12 pairs, {order} scores first." in page.texts("p")
        assert "1 (0 on this page) not explained" in counts(page)
        chosen = [e.attributes["value"] for e in page.all("option") if "selected" in e.attributes]
        assert chosen == [order]
    page = parse(page_of(store, tmp_path / "all", order="highest"))
    assert [e.attributes["data-index"] for e in cards(page)][-1] == "4"  # no score: last
    assert "All 12 pairs, highest scores first." in page.texts("p")


def test_pictures_are_lazy_sized_and_lie_beside_the_page(store, tmp_path):
    text = page_of(store, tmp_path)
    page = parse(text)
    for e in page.all("img"):
        assert e.attributes["loading"] == "lazy"
        assert (tmp_path / e.attributes["src"]).is_file()
    assert "http" not in text
    assert not page.all("link")[1:]
    assert page.all("link")[0].attributes["href"] == "data:,"


def test_settings_are_listed_without_the_empty_ones(store, tmp_path):
    store.settings.update(background=[], steps=[1, 2], note=None)
    listed = counts(parse(page_of(store, tmp_path)))
    assert {"tiny model", "64 batch", "[1, 2] steps", "runs/pets store"} <= listed
    assert not {text for text in listed if text.endswith((" background", " note"))}
    assert any(text.endswith("/ pictures in") for text in listed)
