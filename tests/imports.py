"""What source files import, and importing all of them."""

import ast
import pkgutil
from importlib import import_module
from importlib.util import find_spec


def imported(file):
    """Dotted names of all that a file imports, inside functions, too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def import_all(package):
    """Import every module of a package, but those made of what `test` does not install."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        try:
            import_module(module.name)
        except ModuleNotFoundError as missing:
            if missing.name not in ("gradio", "fiftyone") or find_spec(missing.name):
                raise
