"""The rooms of `pretrained_ports` and the one way between them."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pretrained_ports
from tests.imports import imported

ROOT = Path(pretrained_ports.__file__).parent
# What each may import of the package, beside its own modules; the modules beside the rooms may all.
ROOMS = {
    "_pictures": set(),
    "preprocess": {"_pictures"},
    "models": set(),
    "checkpoints": {"models"},
    "catalog": {"models", "checkpoints", "preprocess"},
    "weights": {"models", "checkpoints", "catalog"},
    "text": {"models", "checkpoints", "catalog", "weights"},
}
FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_imports_from_those_it_may(file):
    own = file.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imported(file):
        package, _, rest = name.partition(".")
        assert package != "fam_jax", f"{file}: {name}"
        if package == "pretrained_ports" and own in ROOMS:
            assert rest.split(".")[0] in {own, *ROOMS[own]}, f"{file}: {name}"


def test_every_folder_of_modules_is_a_room():
    assert {file.parent.name for file in ROOT.glob("*/__init__.py")} < set(ROOMS)


def test_no_module_is_shadowed_by_what_its_package_exports():
    names = [m.name for m in pkgutil.walk_packages([str(ROOT)], "pretrained_ports.")]
    assert "pretrained_ports.checkpoints.matching" in names
    code = "import sys, importlib\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "for name in sys.argv[1:]:\n    parent, _, leaf = name.rpartition('.')\n"
    code += "    assert getattr(sys.modules[parent], leaf) is sys.modules[name], name\n"
    run = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
