"""The README's Python runs as printed, and its shell commands name what exists."""

import re
import tomllib

import jax
import numpy as np
from PIL import Image
from typer.testing import CliRunner

import pretrained_ports
from fam_jax.apps.main import app
from tests.documents import ROOT, blocks

README = (ROOT / "README.md").read_text()
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
# Files of this repository that it links to, as pages and, for its pictures, raw.
PAGES = f"{URLS['Repository']}/blob/main/"
RAW = PAGES.replace("github.com", "raw.githubusercontent.com").replace("/blob/", "/")
LINKED = re.findall(rf"(?:{PAGES}|{RAW})([^)\s]+)", README)


def test_the_python_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("query.jpg", "reference.jpg"):
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(name)
    queries, references = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 64, 64, 3)))
    background = np.asarray(jax.random.normal(jax.random.key(1), (5, 128)))
    scope = {"queries": queries, "references": references, "background": background}
    for block in blocks(README, "python"):
        exec(block, scope)
    assert scope["heat"].shape == (3, 224, 224)
    out = scope["fam_jax"].explain_pairs(scope["encode"], queries, references, scope["method"])
    assert out.valid.all()
    with Image.open("why.png") as figure:
        assert figure.size[0] > 300


def test_the_commands_options_exist():
    commands = [line for block in blocks(README, "sh") for line in block.splitlines()]
    used = {word for line in commands if "fam-jax explain" in line for word in line.split()}
    helped = CliRunner().invoke(app, ["explain", "--help"]).output
    for option in (word for word in used if word.startswith("-")):
        assert option in helped


def test_the_number_of_backbones_is_that_of_the_zoo():
    assert f"{len(pretrained_ports.names())} named backbones" in README


def test_the_files_it_names_exist():
    quoted = re.findall(r"`((?:examples|tests|benchmarks)/[^`\s]+)", README)
    assert quoted
    for path in quoted + LINKED:
        assert (ROOT / path).exists(), path


def test_its_links_are_absolute_so_that_they_lead_somewhere_from_a_package_index():
    assert {"docs/figures/mosaics.png", "docs/ports.md"} <= set(LINKED)
    assert re.findall(r"\]\((?!https://)[^)]*\)", README) == []
    assert re.findall(r"^\[[^\]]+\]: (?!https://).*$", README, re.MULTILINE) == []
    defined = set(re.findall(r"^\[([^\]]+)\]: ", README, re.MULTILINE))
    assert set(re.findall(r"\[((?:docs|benchmarks)/[^\]]+)\]", README)) == defined
