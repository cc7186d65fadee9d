"""What the catalog holds, for people: a row for every model, and one model with its layers."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from pretrained_ports.catalog import ENTRIES, find_entry
from pretrained_ports.catalog.entry import Entry, abstract
from pretrained_ports.models.network import AnyNetwork

SIZES = Path(__file__).parent / "parameters.json"


class Row(NamedTuple):
    """A model in one line.

    Attributes:
        name: For `load` and `create`.
        family: The architecture's family.
        parameters: How many numbers were trained; batch statistics do not count.
        input: Height x width x channels.
        licence: Of the default weights.
        source: Where the default weights come from.
    """

    name: str
    family: str
    parameters: int
    input: str
    licence: str
    source: str


class Layer(NamedTuple):
    """A place to take maps from.

    Attributes:
        path: For `fam_jax.capture(model, at=path)`.
        shape: What it gives for one image of the model's own size, without the batch.
    """

    path: str
    shape: tuple[int, ...]


def table() -> list[Row]:
    """A row for every model, in the order of the catalog.

    Examples:
        >>> table()[0]._replace(source="")
        Row(name='tiny', family='tiny', parameters=311200, input='128 x 128 x 3', \
licence='Apache-2.0', source='')
    """
    sizes = json.loads(SIZES.read_text())  # counting them takes most of a minute
    return [
        _row(name, entry, sizes[name] if name in sizes else count(abstract(entry)))
        for name, entry in ENTRIES.items()
    ]


def counted() -> dict[str, int]:
    """What `SIZES` must hold: the parameters of every model; slow.

    `python -m pretrained_ports.catalog.describe` writes it.
    """
    sizes: dict[str, int] = {}  # rows of one architecture are counted once
    for entry in ENTRIES.values():
        key = repr(entry.build)
        if key not in sizes:
            sizes[key] = count(abstract(entry))
    return {name: sizes[repr(entry.build)] for name, entry in ENTRIES.items()}


def row(name: str) -> Row:
    """One row of `table`.

    Raises:
        ValueError: Unknown name.
    """
    entry = find_entry(name)
    return _row(name, entry, count(abstract(entry)))


def layers(name: str) -> list[Layer]:
    """Every module down to the blocks of a stage, and the default layer, in the order they run.

    Raises:
        ValueError: Unknown name, or an entry with a default layer that its model has not.

    Examples:
        >>> layers("tiny")[-2]
        Layer(path='layer3', shape=(16, 16, 128))
    """
    entry = find_entry(name)
    model = abstract(entry)
    model.eval()
    size = (1, *entry.preprocess.size, entry.preprocess.channels)
    shapes: dict[str, tuple[int, ...]] = {}

    def run(model: AnyNetwork, images: jax.Array) -> jax.Array:
        for path, module in nnx.iter_modules(model):
            name = ".".join(map(str, path))
            if 0 < len(path) <= 2 or name == entry.layer:
                _note(module, name, shapes)
        return model(images)

    nnx.eval_shape(run, model, jax.ShapeDtypeStruct(size, "float32"))
    outputs = [Layer(path, shape[1:]) for path, shape in shapes.items() if shape[:1] == (1,)]
    if entry.layer not in shapes:
        paths = ", ".join(layer.path for layer in outputs)
        raise ValueError(f"{name} has no layer {entry.layer!r}, its default; it has: {paths}")
    return outputs


def count(model: nnx.Module) -> int:
    """How many numbers a model's parameters are."""
    return sum(math.prod(value.shape) for value in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _note(module: nnx.Module, path: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Make a module, which lives for one trace, write down the shape of what it gives."""
    kind: Any = type(module)
    if not callable(module):
        return

    def noting(self, *args, **options):
        out = kind.__call__(self, *args, **options)
        if hasattr(out, "shape"):
            shapes[path] = out.shape
        return out

    module.__class__ = type(kind)(kind.__name__, (kind,), {"__call__": noting})


def _row(name: str, entry: Entry, parameters: int) -> Row:
    height, width = entry.preprocess.size
    source = entry.hub.repository if entry.hub else entry.release
    if entry.embedded:
        source = "in this package"
    return Row(
        name,
        entry.family,
        parameters,
        f"{height} x {width} x {entry.preprocess.channels}",
        entry.licence,
        source,
    )


if __name__ == "__main__":
    SIZES.write_text(json.dumps(counted(), indent=0) + "\n")
