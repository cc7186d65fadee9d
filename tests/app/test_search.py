"""A search in the page is that of `fam-jax retrieve`, against the index as the background."""

import json
import shutil

import pytest

from tests.commands import TINY, run

pytest.importorskip("etils", reason="needs the bulk extra")
pytest.importorskip("jinja2", reason="needs the report extra: jinja2")

from fam_jax import bulk
from fam_jax.apps.live import html
from fam_jax.apps.live.search import Gallery, nearest


@pytest.fixture(scope="module")
def gallery(inputs, opened, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    shutil.copytree(inputs / "some", folder / "some")
    result = run("index", folder / "some", *TINY, "--image-size", 32, "-o", folder / "index")
    assert result.exit_code == 0, result.output
    return folder, Gallery.of(bulk.open_index(folder / "index"), opened)


@pytest.mark.parametrize("method", ["", "decomposition"])
def test_the_hits_and_margins_are_those_of_the_command(method, gallery, opened, tmp_path):
    folder, made = gallery
    query = folder / "some" / "a.png"
    line = ("--method", method) if method else ()
    result = run(
        "retrieve",
        query,
        "--index",
        folder / "index",
        "--top",
        3,
        "--json",
        *line,
        "-o",
        tmp_path / "page",
    )
    assert result.exit_code == 0, result.stderr
    theirs = json.loads(result.stdout)["nearest"][0]["hits"]
    found = nearest(made, opened.read(query), 3, opened.layers[0], method)
    assert [hit.path for hit in found.hits] == [hit["picture"] for hit in theirs]
    for i, hit in enumerate(theirs):
        assert found.hits[i].similarity == pytest.approx(hit["score"], abs=1e-5)
        if not method:
            assert found.answer.arrays["scores"][i] == pytest.approx(hit["margin"], abs=1e-5)
    assert found.answer.about["method"] == (method or "contrastive")
    assert html.hits(found).count("fam-card") == 3 + 1


def test_a_hit_that_has_gone_is_told(gallery, opened, tmp_path):
    folder, made = gallery
    query = opened.read(folder / "some" / "a.png")
    gone = folder / "some" / "b.png"
    gone.rename(folder / "away.png")
    try:
        found = nearest(made, query, 20, opened.layers[0], "")
    finally:
        (folder / "away.png").rename(gone)
    assert len(found.hits) == 3
    (line,) = found.left_out
    assert "has gone: no such file: " in line
    assert "b.png" in line
