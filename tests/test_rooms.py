"""The rooms of the package and the one way between them: each imports only from those it may."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

import fam_jax
from tests.imports import import_all, imported

ROOT = Path(fam_jax.__file__).parent
# What each may import of the package, beside its own modules and what the package exports.
BASE = {"_core", "methods", "metrics", "io", "plot", "store"}
ROOMS = {
    "_core": set(),
    "io": {"_core"},
    "store": {"_core"},
    "plot": {"_core"},
    "methods": {"_core"},
    "metrics": {"_core", "methods"},
    "training": BASE,
    "bulk": BASE,
    "report": BASE,
    "evaluate": BASE,
    "integrations": BASE,
    "apps": BASE | {"bulk", "evaluate", "report"},
}
FILES = sorted(ROOT.rglob("*.py"))


def room(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_imports_from_those_it_may(file):
    own = room(file)
    if own in ("__init__", "__main__"):
        return
    for name in imported(file):
        if name.startswith("pretrained_ports"):
            assert own == "apps", f"{file}: {name}"
        elif name.startswith("fam_jax.") and (other := name.split(".")[1]) in ROOMS:
            assert other == own or other in ROOMS[own], f"{file}: {name}"


def test_every_file_has_a_room():
    assert {room(file) for file in FILES} - {"__init__", "__main__"} <= set(ROOMS)


def test_no_public_module_is_shadowed_by_what_its_package_exports():
    import_all(fam_jax)
    for name, module in list(sys.modules.items()):
        parent, _, leaf = name.rpartition(".")
        public = name.startswith("fam_jax.") and not leaf.startswith("_")
        if public and isinstance(module, ModuleType):
            assert getattr(sys.modules[parent], leaf) is module, name
