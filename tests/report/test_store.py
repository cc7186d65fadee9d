"""A report of a store that a large job made."""

import numpy as np
import pytest
from PIL import Image

import fam_jax
from fam_jax import report
from fam_jax.store import Row, Store
from tests.report.html_check import parse, problems

for _name in ("jinja2", "grain", "tensorstore", "pyarrow"):
    pytest.importorskip(_name, reason='needs pip install ".[bulk,report]"')


class Middle:
    """Sees the middle of a picture, 8 x 8 pixels small."""

    def region(self, size):
        width, height = size
        return width / 4, height / 4, width * 3 / 4, height * 3 / 4

    def __call__(self, picture):
        small = picture.resize((8, 8), box=self.region(picture.size))
        return np.asarray(small, np.float32) / 255


@pytest.fixture
def maps(tmp_path):
    from fam_jax import bulk

    for name in ("a.png", "b.png"):
        Image.effect_noise((64, 48), 50).convert("RGB").save(tmp_path / name)
    table = tmp_path / "pairs.csv"
    table.write_text("query,reference,id,label\na.png,b.png,one,same\nb.png,c.png,two,other\n")
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    about = {"model": "means", "method_name": "fam", "similarity": "cosine"}
    bulk.run(encode, table, tmp_path / "maps", preprocess=Middle(), batch=2, about=about)
    return bulk.open_store(tmp_path / "maps")


def test_pairs_maps_boxes_and_reasons_arrive(maps, tmp_path):
    assert isinstance(maps, Store)
    assert isinstance(maps.rows([0])[0], Row)
    report.write(maps, tmp_path / "out", order="highest")
    page = parse((tmp_path / "out" / "index.html").read_text("utf-8"))
    assert problems(page) == []
    assert page.texts("h3") == ["one", "two"]
    assert page.texts("title") == ["Why these pairs look alike (means, activations, fam, cosine)"]
    good, bad = (" ".join(text.split()) for text in page.texts("article"))
    assert good.endswith("query a.png reference b.png Map of one")
    assert "Not explained: reference: no such file" in bad
    views = [e.attributes for e in page.all("img") if e.attributes.get("class") != "map"]
    assert (views[0]["width"], views[0]["height"]) == ("32", "24")  # the middle, no more
