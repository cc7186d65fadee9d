"""A type checker accepts what the documents show and what a user writes, and sees real types."""

import json
import subprocess
import sys

import pytest

from tests.documents import ROOT, blocks

pytest.importorskip("pyright", reason="needs pyright, of the extra test")

# What a document's code takes for granted, as it would be in a stub file.
ASSUMED = {
    "README.md": "",
    "docs/any-model.md": "kernels: list[Array]\nimages: Array\nreferences: Array",
    "docs/guide.md": "queries: Array\nreferences: Array\nbackground: Array",
    "docs/large-jobs.md": "embeddings: Array",
    "docs/methods.md": (
        "import jax as jax\nfrom PIL.Image import Image\n"
        "queries: Array\nreferences: Array\nothers: Array\n"
        "picture: Image\nother_picture: Image\nLAYERS: tuple[str, ...]\nWEIGHTS: str"
    ),
    "docs/ports.md": "",
    "docs/positions.md": "",
    "docs/training.md": (
        "from collections.abc import Callable, Iterator\nfrom flax import nnx as nnx\n"
        "import fam_jax as fam_jax\n"
        "model: nnx.Module\noptimizer: nnx.Optimizer\n"
        "task: Callable[[Array, Array, Array], Array]\n"
        "method: fam_jax.Method\nencode: fam_jax.Encoder\n"
        "images: Array\nlabels: Array\nmasks: Array\nprototypes: Array\nmaps: Array\ncrops: Array\n"
        "boxes: Array\nqueries: Array\nreferences: Array\n"
        "classes: int\nsteps: int\nstart: int\nfolder: str\n"
        "batches: Iterator[tuple[Array, Array, Array]]"
    ),
}
# Wrong uses: the checker must object to every line with a name of its own.
WRONG = """
import fam_jax
def uses(model: fam_jax.Encoder, enc: fam_jax.Encoding, x: str):
    fam_jax.capture(model, at=("a", "b")).features
    enc.activations.no_such_attribute
    enc.pullback(x)
    fam_jax.metrics.no_such_metric
    fam_jax.explain(model, x, enc.embeddings)
"""


def stem(document: str) -> str:
    return document.removesuffix(".md").replace("/", "_").replace("-", "_").lower()


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, list[str]]:
    """Pyright's errors, by the name of the file."""
    folder = tmp_path_factory.mktemp("types")
    for document, names in ASSUMED.items():
        code = "\n".join(blocks((ROOT / document).read_text(), "python"))
        assert code
        name = stem(document)
        (folder / f"{name}_assumed.pyi").write_text(f"from jax import Array as Array\n{names}\n")
        (folder / f"{name}.py").write_text(f"from {name}_assumed import *\n{code}")
    (folder / "wrong.py").write_text(WRONG)
    user = ROOT / "tests" / "typing_user.py"
    (folder / user.name).write_text(user.read_text())
    settings = {"typeCheckingMode": "basic", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    pyright = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    run = subprocess.run([*pyright, "-p", folder], capture_output=True, text=True, check=False)
    if not run.stdout.startswith("{"):
        pytest.skip(f"pyright does not run here: {(run.stderr or run.stdout)[-300:]}")
    messages = {path.name: [] for path in folder.glob("*.py")}
    for diagnostic in json.loads(run.stdout)["generalDiagnostics"]:
        if diagnostic["severity"] == "error":
            line = diagnostic["range"]["start"]["line"] + 1
            messages[diagnostic["file"].rpartition("/")[2]].append(
                f"{line}: {diagnostic['message']}"
            )
    return messages


def test_every_document_with_python_is_checked():
    documents = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    shown = {str(d.relative_to(ROOT)) for d in documents if blocks(d.read_text(), "python")}
    assert shown == set(ASSUMED)


@pytest.mark.slow
@pytest.mark.parametrize("document", ASSUMED)
def test_the_code_of_a_document_has_no_type_errors(errors, document):
    assert errors[f"{stem(document)}.py"] == []


@pytest.mark.slow
def test_a_user_sees_real_types(errors):
    assert errors["typing_user.py"] == []


@pytest.mark.slow
def test_the_checker_sees_what_is_wrong(errors):
    lines = {int(error.partition(":")[0]) for error in errors["wrong.py"]}
    assert lines == {4, 5, 6, 7, 8}
