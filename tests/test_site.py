"""The site: every public name once, messages that exist, notebooks kept without outputs."""

import ast
import importlib
import inspect
import json
import re

import pytest
import yaml

from tests.documents import ROOT

DOCS = ROOT / "docs"
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
SOURCES = [*ROOT.glob("fam_jax/**/*.py"), *ROOT.glob("pretrained_ports/**/*.py")]
# Modules whose `import x as x` are their public names.
PUBLIC = ("fam_jax", "fam_jax.metrics", "fam_jax.plot", "fam_jax.training", "pretrained_ports")


def texts():
    """All strings of the packages; what an f-string fills in is <>."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "<>"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_message_in_the_list_is_one_of_ours():
    said = "\n".join(texts())
    rows = re.findall(r"^\| `([^`]+)` \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    assert len(rows) > 25
    for message in rows:
        parts = re.split(r"<[^>]*>", message)
        pattern = ".{0,60}?".join(map(re.escape, parts))
        assert re.search(pattern, said), message


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_reference_once(name):
    found = re.findall(r"^::: (\S+)$", "".join(p.read_text() for p in DOCS.glob("api/*.md")), re.M)
    assert len(found) == len(set(found))
    module = importlib.import_module(name)
    source = ast.parse(inspect.getsource(module))
    public = {
        alias.asname
        for node in source.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert public
    assert {f"{name}.{each}" for each in public} <= set(found)


def test_every_page_is_in_the_menu():
    def pages(items):
        for item in items:
            (value,) = item.values()
            yield from [value] if isinstance(value, str) else pages(value)

    settings = re.sub(r"!ENV \[.*?\]", "true", (ROOT / "mkdocs.yml").read_text())
    menu = list(pages(yaml.safe_load(settings)["nav"]))
    there = {str(f.relative_to(DOCS)) for f in [*DOCS.rglob("*.md"), *NOTEBOOKS]}
    assert sorted(menu) == sorted(there)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebooks_are_kept_without_outputs(file):
    """They are made where the site is built; a diff shows what was written."""
    for cell in json.loads(file.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
