"""The documents are complete: every model and its errors, every method, every metric."""

import re
from pathlib import Path

import pytest

import fam_jax.methods
import fam_jax.metrics
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.catalog.clip_text import TEXT_DIALECTS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*DOCS.rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
METHODS = (DOCS / "methods.md").read_text()
PORTS = (DOCS / "ports.md").read_text() + (DOCS / "models.md").read_text()
ROWS = [
    [cell.strip(" `") for cell in line.strip("|").split("|")]
    for line in PORTS.splitlines()
    if line.startswith("|")
]


def test_every_model_has_a_row():
    names = {row[0] for row in ROWS if len(row) == 7}
    assert set(ENTRIES) <= names


def test_every_family_has_an_error_in_every_dialect():
    measured = {(row[0], row[1]) for row in ROWS if len(row) == 8}
    pairs = {(e.family, d) for e in ENTRIES.values() for d in e.dialects if d != "native"}
    pairs |= {("CLIP", dialect) for dialect in TEXT_DIALECTS if dialect != "native-text"}
    assert pairs <= measured, pairs - measured


def test_every_error_is_within_the_tolerance_of_the_tests():
    rows = [row for row in ROWS if len(row) == 8 and re.match(r"\d", row[6])]
    assert len(rows) > 20
    for family, dialect, _, _, _, single, double, _ in rows:
        assert float(single) <= 1e-5, (family, dialect)
        assert float(double) <= 1e-10, (family, dialect)


@pytest.mark.parametrize("module", [fam_jax.methods, fam_jax.metrics])
def test_every_method_and_metric_is_on_the_page(module):
    table = {"make", "names", "register"}  # how methods are found, not methods
    every = {name for name, value in vars(module).items() if callable(value) and name[0] != "_"}
    names = sorted(every - table)
    assert len(names) > 25
    assert [name for name in names if f"`{name}" not in METHODS] == []


def test_links_between_the_pages_lead_somewhere():
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    ]
    assert len(links) > 20
    assert [link for link in links if not (link[0].parent / link[1]).exists()] == []
