"""The README and the guides run word for word, in the order they stand, each in a fresh folder.

Installing is left out, and so is what the fence says it is for.
"""

import re
import shutil
import tomllib

import jax
import numpy as np
import pytest

from pretrained_ports.catalog import ENTRIES
from tests import document_inputs
from tests.commands import run
from tests.documents import ROOT, every_block

for extra in ("skimage", "grain", "jinja2", "tokenizers"):
    pytest.importorskip(extra, reason="needs the extras demo, bulk, report and text")

NOT_RUN = {
    "test": "this session",
    "page": "serves until it is stopped",
    "tpu": "needs Cloud TPUs",
    "slurm": "needs a cluster",
}
INSTALL = ["python", "-m", "pip", "install"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
WITH_CODE = [page for page, text in TEXTS.items() if every_block(text)]
SHELL = "".join(
    block.code.replace("\\\n", "")
    for text in TEXTS.values()
    for block in every_block(text)
    if block.language == "sh"
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Files to be copied, and small networks as long as this module runs."""
    folder = tmp_path_factory.mktemp("documents")
    kept = dict(ENTRIES)
    with pytest.MonkeyPatch.context() as patch:
        document_inputs.shrink(patch, folder / "hub")
        document_inputs.write_files(folder / "here")
        yield folder / "here"
    ENTRIES.clear()  # a document registers a network of its own
    ENTRIES.update(kept)


@pytest.fixture
def fresh(inputs, tmp_path, monkeypatch):
    """A folder with what the documents find, and the one to be in."""
    monkeypatch.chdir(shutil.copytree(inputs, tmp_path / "fresh"))
    return tmp_path / "fresh"


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE)
def test_every_block_runs_in_order(page, fresh):
    scope = {"__name__": "__main__", **document_inputs.names(page, fresh)}
    # With JAX's own promotion of types and ranks, as a user has it.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in every_block(TEXTS[page]):
            if block.language == "python":
                exec(compile(block.code, page, "exec"), scope)
            elif block.note not in NOT_RUN and block.language != "yaml":
                assert (block.language, block.note) in {("sh", ""), ("sh", "demo")}
                run_lines(block)
    if page in AFTER:
        AFTER[page](scope, fresh)


def run_lines(block):
    for words in block.lines():
        if words[:4] != INSTALL:
            assert words[0] == "fam-jax", f"nothing here runs {words[0]}"
            result = run(*words[1:])
            assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}"


def after_readme(scope, folder):
    assert scope["out"].valid.all()
    for name in ("why.png", "out/manifest.json"):
        assert (folder / name).exists(), name


def after_guide(scope, folder):
    assert scope["heat"].shape == (3, 224, 224)
    assert scope["out"].valid.all()
    for name in ("maps/zarr.json", "out/manifest.json", "page/index.html"):
        assert (folder / name).exists(), name


def after_training(scope, folder):
    assert (folder / "run" / "maps" / "strip.png").exists()
    untrained = document_inputs.names("docs/training.md", folder)["model"]
    trained = scope["model"].block1.conv.kernel[...]
    assert not np.array_equal(trained, untrained.block1.conv.kernel[...])


AFTER = {
    "README.md": after_readme,
    "docs/guide.md": after_guide,
    "docs/training.md": after_training,
}


def test_what_does_not_run_here_is_at_least_a_command_of_ours():
    """Every option of every command exists, on a cluster, too."""
    ours = re.findall(r"fam-jax (\w+)([^\n#']*)", SHELL)
    assert len(ours) > 10
    helped = {command: run(command, "--help").output for command, _ in ours}
    for command, rest in ours:
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest):
            assert re.search(rf"(?<!\S){option}\b", helped[command]), (command, option)


def test_what_is_installed_are_extras_that_there_are():
    installs = re.findall(r'pip install .*?"\.\[([^]]+)\]"', SHELL)
    assert len(installs) > 3
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {extra for install in installs for extra in install.split(",")}
    assert extras <= set(project["optional-dependencies"])
