"""What the README says of the repository is so: counts, files, links."""

import re
import tomllib

import pretrained_ports
from tests.documents import ROOT

README = (ROOT / "README.md").read_text()
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
# Files of this repository that it links to, as pages and, for its pictures, raw.
PAGES = f"{URLS['Repository']}/blob/main/"
RAW = PAGES.replace("github.com", "raw.githubusercontent.com").replace("/blob/", "/")
LINKED = re.findall(rf"(?:{PAGES}|{RAW})([^)\s]+)", README)


def test_the_number_of_backbones_is_that_of_the_zoo():
    assert f"{len(pretrained_ports.names())} named backbones" in README


def test_the_files_it_names_exist():
    guide = (ROOT / "docs" / "guide.md").read_text()
    quoted = re.findall(r"`((?:examples|tests|benchmarks)/[^`\s]+)", README + guide)
    assert quoted
    for path in quoted + LINKED:
        assert (ROOT / path).exists(), path


def test_it_fits_one_screen():
    """What is no link's address, without blank lines."""
    assert len([line for line in README.splitlines() if line and line[0] != "["]) <= 45


def test_its_links_are_absolute_so_that_they_lead_somewhere_from_a_package_index():
    assert {"docs/figures/alike.png", "docs/ports.md"} <= set(LINKED)
    assert re.findall(r"\]\((?!https://)[^)]*\)", README) == []
    assert re.findall(r"^\[[^\]]+\]: (?!https://).*$", README, re.MULTILINE) == []
    defined = set(re.findall(r"^\[([^\]]+)\]: ", README, re.MULTILINE))
    assert set(re.findall(r"\[((?:docs|benchmarks)/[^\]]+)\]", README)) == defined
