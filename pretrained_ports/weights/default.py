"""The weights that a model has when no file is given: embedded here, or on the hub."""

from pathlib import Path

from pretrained_ports.catalog.entry import Entry
from pretrained_ports.weights.hub import fetch


def default_weights(name: str, entry: Entry) -> tuple[Path, str]:
    """The file with a model's default weights, and where it comes from."""
    if entry.embedded:
        return Path(__file__).parent / entry.embedded, f"embedded {entry.embedded}"
    if entry.hub is None:
        raise ValueError(
            f"{name} has no default weights: pass weights=FILE (--weights FILE), or use "
            f"create({name!r}) (--weights random) for random ones"
            f"{entry.release and '; the authors give theirs at '}{entry.release}"
        )
    path = fetch(entry.hub, f"the weights of {name}", "weights=FILE (--weights FILE)")
    return path, f"{entry.hub.repository} {entry.hub.file}"
